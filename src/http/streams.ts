/** Answers that go on: each piece goes out as it comes, and nothing is kept for a client that has gone. */
import { streamMark } from "./socket-server.ts";

/** What a stream's source is given. */
export interface Sink {
  write(data: string | Uint8Array): void;
  end(): void;
}

const encoder = new TextEncoder();

/** A streaming answer; `source` begins it, and the function that it returns ends its work when the client has gone. */
export function streamResponse(
  type: string,
  signal: AbortSignal,
  source: (sink: Sink) => () => void,
): Response {
  let stop = () => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      let open = true;
      const end = () => {
        if (!open) return;
        open = false;
        stop();
        controller.close();
      };
      stop = source({
        write: (data) => {
          if (open) controller.enqueue(typeof data === "string" ? encoder.encode(data) : data);
        },
        end,
      });
      signal.addEventListener("abort", end);
      if (signal.aborted) end();
    },
    cancel: () => stop(),
  });
  const headers = { "content-type": type, "cache-control": "no-store", [streamMark]: "1" };
  return new Response(body, { headers });
}
