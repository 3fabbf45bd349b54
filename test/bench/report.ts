/** What every bench prints: a table for people, or with `--json` one object on stdout. */

export interface Figures {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly samples: number;
  readonly chv: Figures;
  readonly peer: Figures | null;
  readonly peerName: string | null;
  readonly peerCommand: string | null;
  /** chv's median over the peer's; null without a peer. */
  readonly ratio: number | null;
}

export interface Peer {
  readonly name: string;
  readonly command: string;
  readonly samples: readonly number[];
}

export function figures(samples: readonly number[]): Figures {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median =
    sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { min: sorted[0]!, median, max: sorted.at(-1)! };
}

export function row(name: string, unit: string, samples: readonly number[], peer?: Peer): Row {
  const chv = figures(samples);
  const other = peer ? figures(peer.samples) : null;
  return {
    name,
    unit,
    samples: samples.length,
    chv,
    peer: other,
    peerName: peer?.name ?? null,
    peerCommand: peer?.command ?? null,
    ratio: other ? chv.median / other.median : null,
  };
}

const number = (value: number) => value.toFixed(value < 100 ? 2 : 0);
const triple = (f: Figures) => `${number(f.min)} / ${number(f.median)} / ${number(f.max)}`;

/** Ends a bench. */
export function report(bench: string, rows: readonly Row[]): void {
  if (process.argv.includes("--json")) {
    process.stdout.write(`${JSON.stringify({ bench, rows })}\n`);
    return;
  }
  const lines = rows.map(({ name, chv, peer, peerName, ratio, samples }) => [
    name,
    String(samples),
    triple(chv),
    peer ? `${peerName}: ${triple(peer)}` : "-",
    ratio === null ? "-" : ratio.toFixed(3),
  ]);
  const table = [
    ["", "runs", "chv min / median / max", "peer min / median / max", "ratio"],
    ...lines,
  ];
  const widths = table[0]!.map((_, column) =>
    Math.max(...table.map((line) => line[column]!.length)),
  );
  for (const line of table) {
    const cells = line.map((cell, column) => cell.padEnd(widths[column]!));
    process.stdout.write(`${cells.join("  ").trimEnd()}\n`);
  }
}
