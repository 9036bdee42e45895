import { z } from "zod";

/**
 * A host's name in the cluster. It goes into certificates, file names and metric labels, so the alphabet is
 * the one of DNS labels, lower case; 64 is the longest common name X.509 allows.
 */
export const hostNameSchema = z
  .string()
  .max(64)
  .regex(
    /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/,
    "must be lower-case letters, digits, '-' and '.', such as alpha",
  );
