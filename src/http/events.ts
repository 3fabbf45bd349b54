/** `GET events`: what happened since the process started, and what happens, as NDJSON or as server-sent events. */
import { eventLine } from "../machine/event-monitor.ts";
import type { EventLog, VmmEvent } from "../machine/vmm/events.ts";
import { ascii } from "./json.ts";
import { streamResponse } from "./streams.ts";

/** How server-sent events spell one (WHATWG HTML, 9.2). */
const sent = (event: VmmEvent) =>
  `id: ${event.sequence}\nevent: ${event.source}.${event.event}\ndata: ${eventLine(event)}\n`;

/**
 * Without `follow` it ends with what has happened so far. `after`: the number of the last event that the client has,
 * so that one that lost its connection goes on where it was.
 */
export function eventsResponse(
  events: EventLog,
  options: { readonly sse: boolean; readonly follow: boolean; readonly after: number },
  signal: AbortSignal,
): Response {
  const { sse, follow, after } = options;
  const type = sse ? "text/event-stream" : "application/x-ndjson";
  const told = (event: VmmEvent): string => {
    if (event.sequence <= after) return "";
    return ascii(sse ? sent(event) : eventLine(event));
  };
  if (!follow) {
    const headers = { "content-type": type, "cache-control": "no-store" };
    return new Response(events.history.map(told).join(""), { headers });
  }
  return streamResponse(type, signal, ({ write }) =>
    events.follow((event) => {
      const text = told(event);
      if (text !== "") write(text);
    }),
  );
}
