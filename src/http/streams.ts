/** Answers that go on: each piece goes out as it comes, and nothing is kept for a client that has gone. */
import { streamMark } from "./socket-server.ts";

/** What a stream's source is given. */
export interface Sink {
  write(data: string | Uint8Array): void;
  end(): void;
}

const encoder = new TextEncoder();

/** What a stream's reader may be behind, in bytes: more than anybody is told at once when a stream begins. */
const backlog = 16 * 2 ** 20;

/** A streaming answer; `source` begins it, and the function that it returns ends its work when the client has gone. */
export function streamResponse(
  type: string,
  signal: AbortSignal,
  source: (sink: Sink) => () => void,
): Response {
  let stop = () => {};
  const kind = { highWaterMark: backlog, size: (bytes?: Uint8Array) => bytes?.length ?? 0 };
  let open = true;
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const end = () => {
          if (!open) return;
          open = false;
          stop();
          controller.close();
        };
        const write = (data: string | Uint8Array) => {
          if (!open) return;
          controller.enqueue(typeof data === "string" ? encoder.encode(data) : data);
          if (controller.desiredSize! >= 0) return;
          open = false;
          stop();
          controller.error(new Error("the reader is too slow"));
        };
        stop = source({ write, end });
        if (!open) stop(); // it was over before it had begun
        signal.addEventListener("abort", end);
        if (signal.aborted) end();
      },
      cancel: () => {
        open = false;
        stop();
      },
    },
    kind,
  );
  const headers = { "content-type": type, "cache-control": "no-store", [streamMark]: "1" };
  return new Response(body, { headers });
}
