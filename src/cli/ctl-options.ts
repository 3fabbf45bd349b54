/** The options of `chv ctl`: what some of its commands take beside a word. */
import * as v from "valibot";
import { count, name, onOff, size } from "../machine/config/field.ts";

export const CtlOptionsSchema = v.object({
  timeout: v.optional(count("wait: milliseconds to wait; for ever if not given", { hint: "MS" })),
  follow: v.optional(onOff("events, console: go on with what happens"), true),
  cpus: v.optional(count("resize: vCPUs", { min: 1 })),
  memory: v.optional(size("resize: RAM")),
  balloon: v.optional(size("resize: RAM taken back by the balloon")),
  disk: v.optional(name("resize-disk: the disk's id", { hint: "ID" })),
  size: v.optional(size("resize-disk: its new size")),
});

export type CtlOptions = v.InferOutput<typeof CtlOptionsSchema>;
