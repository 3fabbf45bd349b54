/** What a JUnit report of Bun's test runner says: how many passed, and which failed of what. */

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface Failure {
  /** Relative to the repository's root. */
  readonly file: string;
  readonly name: string;
  /** What it failed of, on one line. */
  readonly message: string;
}

/** The sums of a report's root element; undefined if it has none. */
export function countsOf(report: string): Counts | undefined {
  const element = /<testsuites\b[^>]*>/.exec(report)?.[0];
  if (!element) return undefined;
  const value = (name: string) => Number(attribute(element, name) ?? 0);
  const failed = value("failures") + value("errors");
  const skipped = value("skipped");
  return { passed: value("tests") - failed - skipped, failed, skipped };
}

/** The failed tests of a report, in its order; a name is written as the runner prints it. */
export function failuresOf(report: string): Failure[] {
  const cases = report.matchAll(
    /(<testcase\b[^>]*[^/>])>\s*<(?:failure|error)\b([^>]*)>/g, // in attributes ">" is "&gt;"
  );
  return [...cases].map(([, testcase, failure]) => {
    const groups = (attribute(testcase!, "classname") ?? "").split(" > ").filter(Boolean);
    const name = [...groups.reverse(), attribute(testcase!, "name") ?? ""].join(" > ");
    const message = attribute(failure!, "message") ?? attribute(failure!, "type") ?? "";
    const file = relative(attribute(testcase!, "file") ?? "");
    return { file, name, message: message.split("\n").filter(Boolean).join("; ") };
  });
}

/** The test files that a report has a word of. */
export function filesOf(report: string): Set<string> {
  return new Set(
    [...report.matchAll(/<testsuite [^>]*>/g)].map(([suite]) =>
      relative(attribute(suite, "file") ?? ""),
    ),
  );
}

/** From the repository's root: the runner counts from the folder where a test has taken its process. */
const relative = (file: string): string => file.replace(/^(?:\.\.)?\/(?:.*\/)?(?=test\/)/, "");

const entities: Readonly<Record<string, string>> = {
  ...{ lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" },
};

function attribute(element: string, name: string): string | undefined {
  const value = new RegExp(`\\s${name}="([^"]*)"`).exec(element)?.[1];
  return value?.replace(/&(?:#(\d+)|(\w+));/g, (whole, code?: string, word?: string) =>
    code ? String.fromCodePoint(Number(code)) : (entities[word!] ?? whole),
  );
}
