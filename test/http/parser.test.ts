/** HTTP/1.1 requests as RFC 9112 frames them, whole and in pieces; and what must be refused. */

import { heapStats } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  HttpRefusal,
  type HttpRequest,
  limits,
  RequestParser,
} from "../../src/http/server/parser.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const shown = ({ method, target, headers, body, last }: HttpRequest) => ({
  ...{ method, target, headers: Object.fromEntries(headers), last },
  body: new TextDecoder().decode(body),
});

/** Every request in a text that comes in such pieces. */
function requests(text: string, pieces: readonly number[] = []): ReturnType<typeof shown>[] {
  const parser = new RequestParser();
  const found: ReturnType<typeof shown>[] = [];
  const all = bytes(text);
  const cuts = [0, ...pieces.map((cut) => cut % (all.length + 1)), all.length].sort(
    (a, b) => a - b,
  );
  for (const [i, end] of cuts.slice(1).entries()) {
    parser.push(all.subarray(cuts[i]!, end));
    for (let one = parser.next(); one; one = parser.next()) found.push(shown(one));
  }
  expect(parser.pending).toBe(0);
  return found;
}

function refusal(text: string): number {
  try {
    const parser = new RequestParser();
    parser.push(bytes(text));
    parser.next();
  } catch (error) {
    if (error instanceof HttpRefusal) return error.status;
    throw error;
  }
  return 0;
}

const chunked = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

describe("memory", () => {
  const arrays = () => {
    Bun.gc(true);
    return heapStats().objectTypeCounts.Uint8Array ?? 0;
  };

  test("a body in the shortest chunks is not kept in as many pieces", () => {
    const parser = new RequestParser();
    const before = arrays();

    parser.push(bytes(chunked + "1\r\nx\r\n".repeat(100_000)));
    expect(parser.next()).toBeUndefined();
    expect(arrays() - before).toBeLessThan(1000);

    parser.push(bytes("0\r\n\r\n"));
    expect(new TextDecoder().decode(parser.next()!.body)).toBe("x".repeat(100_000));
  });

  test("a client that has sent a large body and is idle keeps none of it", () => {
    const text = bytes(`PUT / HTTP/1.1\r\nContent-Length: ${limits.body}\r\n\r\n`);
    const held = () => {
      Bun.gc(true);
      return process.memoryUsage().arrayBuffers;
    };
    const before = held();

    const idle = Array.from({ length: 16 }, () => {
      const parser = new RequestParser();
      parser.push(text);
      parser.push(new Uint8Array(limits.body));
      expect(parser.next()!.body.length).toBe(limits.body);
      return parser;
    });

    expect(held() - before).toBeLessThan(8 * limits.body);
    expect(idle.map(({ pending }) => pending)).toEqual(new Array(16).fill(0));
  });
});

const ping = "GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\n\r\n";

describe("a request", () => {
  test("without a body", () => {
    expect(requests(ping)).toEqual([
      {
        ...{ method: "GET", target: "/api/v1/vmm.ping", headers: { host: "localhost" } },
        ...{ body: "", last: false },
      },
    ]);
  });

  test("with a body by its length, and the next one behind it", () => {
    const text = `PUT /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello${ping}`;
    expect(requests(text).map(({ method, body }) => [method, body])).toEqual([
      ["PUT", "hello"],
      ["GET", ""],
    ]);
  });

  test("with a body in chunks, extensions and trailers dropped (section 7.1)", () => {
    const text =
      "PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nWiki\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
    expect(requests(text)[0]!.body).toBe("Wiki0123456789");
  });

  test("is the last of its connection if it says so, or is HTTP/1.0", () => {
    const last = (line: string, header: string) =>
      requests(`GET / ${line}\r\n${header}\r\n`)[0]!.last;
    expect(last("HTTP/1.1", "")).toBe(false);
    expect(last("HTTP/1.1", "Connection: Close\r\n")).toBe(true);
    expect(last("HTTP/1.1", "Connection: keep-alive, close\r\n")).toBe(true);
    expect(last("HTTP/1.1", "Connection: closed\r\n")).toBe(false);
    expect(last("HTTP/1.0", "")).toBe(true);
  });

  test("that expects a word first gets it once, when its body is not there", () => {
    const parser = new RequestParser();
    parser.push(bytes("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    expect(parser.next()).toBeUndefined();
    expect([parser.takeContinue(), parser.takeContinue()]).toEqual([true, false]);
    parser.push(bytes("h"));
    expect(parser.next()).toBeUndefined();
    expect(parser.takeContinue()).toBe(false);
    parser.push(bytes("i"));
    expect(shown(parser.next()!).body).toBe("hi");
  });

  test("may follow empty lines (section 2.2)", () => {
    expect(requests(`\r\n\r\n${ping}`)).toHaveLength(1);
  });

  test("is the same however it is cut", () => {
    const text = `${ping}PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n${ping}`;
    const whole = requests(text);
    expect(whole).toHaveLength(4);
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 40 }), (cuts) => {
        expect(requests(text, cuts)).toEqual(whole);
      }),
    );
  });
});

describe("refused is", () => {
  test.each([
    ["no request line", "hello\r\n\r\n", 400],
    ["two spaces", "GET  / HTTP/1.1\r\n\r\n", 400],
    ["HTTP/2", "GET / HTTP/2.0\r\n\r\n", 505],
    ["a blank before a colon (section 5.1)", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400],
    ["a folded line (section 5.2)", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400],
    ["two lengths", "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400],
    [
      "a length and chunks",
      "PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400,
    ],
    ["a negative length", "PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400],
    ["a coding nobody knows", "PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501],
    ["a body too long", `PUT / HTTP/1.1\r\nContent-Length: ${limits.body + 1}\r\n\r\n`, 413],
    ["a huge length", "PUT / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n", 400],
    ["a head without an end", `GET / HTTP/1.1\r\nA: ${"x".repeat(limits.head)}`, 431],
    ["a head too long", `GET / HTTP/1.1\r\nA: ${"x".repeat(limits.head)}\r\n\r\n`, 431],
    ["too many headers", `GET / HTTP/1.1\r\n${"A: b\r\n".repeat(65)}\r\n`, 431],
    [
      "a chunk longer than it says",
      "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
      400,
    ],
    [
      "chunks too long in all",
      "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
      413,
    ],
  ])("%s: %#", (_, text, status) => {
    expect(refusal(text)).toBe(status);
  });

  test("nothing worse than that, whatever comes", () => {
    const piece = fc.oneof(
      fc.constantFrom("GET / HTTP/1.1", "\r\n", "Content-Length: 3", ": ", "\0", "chunked", "0"),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        expect(refusal(pieces.join(""))).toBeLessThan(600);
      }),
    );
  });
});
