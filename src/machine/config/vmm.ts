/** What belongs to the process and not to a machine: its log, its events, its API. */
import * as v from "valibot";
import { reactions } from "../vmm/reactions.ts";
import { choice, count, either, field, name, path, pattern } from "./field.ts";

const fd = (description: string) => count(description, { max: 2 ** 31 - 1, hint: "FD" });

export const EventMonitorConfig = field(
  either(
    v.object({
      path: v.optional(path("Events to this file or named pipe")),
      fd: v.optional(fd("Events to this open descriptor")),
    }),
    "path",
    "fd",
  ),
  "Events of the machine, one JSON object a line",
  { option: "event-monitor" },
);

export const ApiSocketConfig = field(
  either(
    v.object({
      path: v.optional(path("Where the socket is made")),
      fd: v.optional(fd("A socket that already listens")),
      mode: v.optional(
        pattern(/^0?[0-7]{3}$/, "an access mode, such as 0600", "Access mode of the socket", {
          hint: "OCTAL",
        }),
        "0600",
      ),
      group: v.optional(
        pattern(/^[^,]+$/, "a group name or id", "Group of the socket", { hint: "GROUP" }),
      ),
    }),
    "path",
    "fd",
  ),
  "Serve the HTTP API on a unix socket",
  { option: "api-socket", bare: "path" },
);

const reaction = (when: string) => choice(reactions, when);

export const VmmOptionsSchema = v.object({
  verbosity: v.optional(
    count("Log more: -v info, -vv debug, -vvv trace", {
      option: "verbose",
      short: "v",
      counts: true,
    }),
    0,
  ),
  logFile: v.optional(path("Log to this file instead of stderr")),
  logFormat: v.optional(choice(["text", "json"], "Form of the log's lines"), "text"),
  eventMonitor: v.optional(EventMonitorConfig),
  apiSocket: v.optional(ApiSocketConfig),
  apiListen: v.optional(
    name("Serve the HTTP API on TCP too; of this host alone, unless there is a token", {
      hint: "ADDR:PORT",
    }),
  ),
  apiTokenFile: v.optional(path("File with the token that clients of --api-listen must show")),
  onReboot: v.optional(reaction("When the guest resets itself"), "restart"),
  onPoweroff: v.optional(reaction("When the guest powers itself off"), "exit"),
  onPanic: v.optional(reaction("When the guest's kernel panics, where pvpanic tells"), "exit"),
  seccomp: v.optional(choice(["true", "false", "log"], "System call filter"), "false"),
});

export type VmmOptions = v.InferOutput<typeof VmmOptionsSchema>;
