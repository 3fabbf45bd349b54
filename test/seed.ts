/**
 * Loaded before every test file (bunfig.toml): property tests draw the same cases in each run, so that a red run is
 * about the change at hand. `CHV_SEED=random` draws new ones, and `./dev test fuzz` does.
 */
import fc from "fast-check";

const { CHV_SEED = "1" } = process.env;
if (CHV_SEED !== "random")
  fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(CHV_SEED) });
