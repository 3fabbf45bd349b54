/** `GET events`: what happened since the process started, and what happens, as NDJSON or as server-sent events. */
import { eventLine } from "../machine/event-monitor.ts";
import type { EventLog, VmmEvent } from "../machine/vmm/events.ts";
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
  return streamResponse(type, signal, ({ write, end }) => {
    const tell = (event: VmmEvent) => {
      if (event.sequence > after) write(sse ? sent(event) : eventLine(event));
    };
    if (follow) return events.follow(tell);
    for (const event of events.history) tell(event);
    queueMicrotask(end);
    return () => {};
  });
}
