/** The API's own description (OpenAPI 3.1), made of the table of operations and the schemas of its bodies. */
import { toJsonSchema } from "@valibot/to-json-schema";
import type { GenericSchema } from "valibot";
import { version } from "../../package.json";
import type { Operation } from "./operation.ts";

const content = (type: string, schema: object) => ({ content: { [type]: { schema } } });
const json = (schema: object) => content("application/json", schema);

/** What each status of an error means, in every operation. */
const errors: Readonly<Record<string, string>> = {
  400: "The body or the configuration is wrong",
  404: "There is no VM, or no such thing",
  405: "The operation has another method",
  408: "It did not happen in the time given",
  409: "The VM's state does not allow it",
  413: "The body is too long",
  500: "A fault of chv's own",
  501: "Not built in this version",
  503: "The host cannot do it now",
};

const Messages = {
  type: "array",
  items: { type: "string" },
  description: "What went wrong, outermost first",
};
const Problem = {
  type: "object",
  properties: {
    type: { type: "string" },
    title: { type: "string" },
    status: { type: "integer" },
    detail: { type: "string" },
    option: { type: "string" },
  },
  required: ["type", "title", "status", "detail"],
};

function schemaOf(schema: GenericSchema): object {
  const { $schema: _, ...rest } = toJsonSchema(schema, { typeMode: "input", errorMode: "ignore" });
  return rest;
}

function responses(operation: Operation): object {
  const all: Record<string, object> = {};
  const { reply: schema, type } = operation;
  const text = type === undefined ? {} : content(type, { type: "string" });
  const reply = schema ? json(schemaOf(schema)) : text;
  const answers = operation.method === "get" || schema !== undefined;
  const status = operation.emptyStatus ?? (answers ? 200 : 204);
  all[status] = { description: "Done", ...reply };
  for (const [code, description] of Object.entries(errors)) {
    all[code] = { description, ...errorContent };
  }
  return all;
}

const errorContent = {
  content: {
    "application/json": { schema: { $ref: "#/components/schemas/Messages" } },
    "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } },
  },
};

export function openApi(operations: Readonly<Record<string, Operation>>): object {
  const paths: Record<string, object> = {};
  for (const [name, operation] of Object.entries(operations)) {
    const { method, summary, body, query = {} } = operation;
    const parameters = Object.entries(query).map(([parameter, description]) => ({
      ...{ name: parameter, in: "query", description, schema: { type: "string" } },
    }));
    paths[`/${name}`] = {
      [method]: {
        operationId: name,
        summary,
        ...(parameters.length > 0 ? { parameters } : {}),
        ...(body ? { requestBody: { required: true, ...json(schemaOf(body)) } } : {}),
        responses: responses(operation),
      },
    };
  }
  return {
    openapi: "3.1.0",
    info: { title: "chv", version, description: "A virtual machine monitor's HTTP API" },
    servers: [{ url: "http://localhost/api/v1" }],
    paths,
    components: { schemas: { Messages, Problem } },
  };
}
