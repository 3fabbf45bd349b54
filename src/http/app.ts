/** The API as a Hono application: routes made of the table of operations, and errors as their statuses say. */
import { type Context, Hono } from "hono";
import { log } from "../log.ts";
import type { Vmm } from "../machine/vmm/vmm.ts";
import { parseJson, readBody } from "./body.ts";
import { fromDialect, today } from "./dialect.ts";
import { ApiError, errorResponse, statusOf } from "./errors.ts";
import { asciiJson } from "./json.ts";
import { metricsResponse } from "./metrics.ts";
import type { Operation } from "./operation.ts";
import { operations, warnUnknown } from "./operations.ts";
import { type Descriptors, type Handler, streamMark } from "./socket-server.ts";

const base = "/api/v1/";

type Env = { Bindings: { fds: Descriptors } };

/** Answers every request; nothing is thrown. */
export function createApi(vmm: Vmm, more: Readonly<Record<string, Operation>> = {}): Handler {
  const table = { ...operations, ...more };
  const app = new Hono<Env>();
  for (const [name, operation] of Object.entries(table)) {
    app.on(operation.method, base + name, async (c) => {
      const text = await c.req.text();
      const { signal, url } = c.req.raw;
      const query = new URL(url).searchParams;
      const accept = c.req.header("accept") ?? "";
      const context = { vmm, fds: c.env.fds, signal, query, accept, dialect: today };
      return run(name, operation, context, text);
    });
  }
  app.get("/metrics", () => metricsResponse(vmm));
  const operationAt = (path: string): Operation | undefined => {
    if (path === "/metrics") return table.metrics;
    const name = path.slice(base.length);
    return path.startsWith(base) && Object.hasOwn(table, name) ? table[name] : undefined;
  };
  const failed = (error: Error, { req }: Context): Response => {
    const status = statusOf(error);
    if (status === 500) log.error(`${req.method} ${req.path}: ${error.stack ?? error.message}`);
    else log.debug(`${req.method} ${req.path}: ${status}: ${error.message}`);
    const name = operationAt(req.path) && req.path.split("/").at(-1);
    return errorResponse(error, name && `${name} failed`, req.header("accept") ?? "");
  };
  app.onError(failed);
  app.notFound((c) => {
    const { path, method } = c.req;
    const operation = operationAt(path);
    const error = operation
      ? wrongMethod(method, operation)
      : new ApiError(404, `There is no ${path}`);
    return failed(error, c);
  });
  return async (request, fds) => {
    if (request.method !== "HEAD") return app.fetch(request, { fds });
    const get = new Request(request, { method: "GET", signal: request.signal });
    return headOf(await app.fetch(get, { fds }));
  };
}

/** What a HEAD request is answered with: a whole answer, of which the server sends the head; of a stream the head. */
async function headOf(response: Response): Promise<Response> {
  if (!response.headers.has(streamMark)) return response;
  await response.body?.cancel();
  return new Response(null, response);
}

async function run(
  name: string,
  operation: Operation,
  context: Parameters<Operation["run"]>[0],
  text: string,
): Promise<Response> {
  const json = parseJson(text);
  if (operation.body === undefined && json !== undefined) {
    throw new ApiError(400, "This operation takes no body");
  }
  let body: unknown;
  let { dialect } = context;
  if (operation.body !== undefined) {
    const spelled = operation.dialects ? fromDialect(json) : { json, dialect };
    const read = readBody(operation.body, spelled.json);
    warnUnknown(name, read.unknown);
    body = read.value;
    dialect = spelled.dialect;
  }
  const reply = await operation.run({ ...context, dialect }, body as never);
  if (reply instanceof Response) return reply;
  if (reply === undefined) return new Response(null, { status: operation.emptyStatus ?? 204 });
  const headers = { "content-type": "application/json" };
  return new Response(asciiJson(reply), { status: 200, headers });
}

const wrongMethod = (method: string, { method: right }: Operation) =>
  new ApiError(405, `${method} does not do this; use ${right.toUpperCase()}`, {
    allow: right.toUpperCase(),
  });
