import { defineConfig } from "vitest/config";

// Unit tests live beside the code as *.test.ts; end-to-end scenarios are run by e2e/run on a real lab.
export default defineConfig({
  test: {
    include: ["{orchestrator,criu,policies,e2e}/**/*.test.ts"],
    exclude: ["e2e/scenarios/**", "**/node_modules/**", "dist/**"],
    testTimeout: 20_000,
  },
});
