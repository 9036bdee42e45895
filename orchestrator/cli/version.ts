export { ownVersion } from "../version.js";
