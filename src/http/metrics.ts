/** `/metrics`: the VM's state and its devices' counters in Prometheus's text format (version 0.0.4). */
import { version } from "../../package.json";
import { vmStates } from "../machine/vmm/states.ts";
import type { Vmm } from "../machine/vmm/vmm.ts";

const type = "text/plain; version=0.0.4";

export function metricsResponse(vmm: Vmm): Response {
  const lines: string[] = [];
  const metric = (
    name: string,
    kind: "gauge" | "counter",
    help: string,
    rows: [string, number][],
  ) => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`);
    for (const [labels, value] of rows) lines.push(`${name}${labels} ${value}`);
  };
  metric("chv_info", "gauge", "The VMM", [[`{version="${version}"}`, 1]]);
  const { state } = vmm;
  const states = vmStates.map((one): [string, number] => [
    `{state="${one}"}`,
    one === state ? 1 : 0,
  ]);
  metric("chv_vm_state", "gauge", "The VM's state: 1 for the one it is in", states);
  const { rss } = process.memoryUsage();
  metric("chv_resident_bytes", "gauge", "Resident memory, the guest's included", [["", rss]]);
  metric("chv_uptime_seconds", "counter", "Since the process started", [["", process.uptime()]]);

  const byCounter = new Map<string, [string, number][]>();
  for (const [device, counters] of Object.entries(vmm.guest?.machine.counters() ?? {})) {
    for (const [name, value] of Object.entries(counters)) {
      const rows = byCounter.get(name) ?? [];
      rows.push([`{device="${escaped(device)}"}`, value]);
      byCounter.set(name, rows);
    }
  }
  for (const [name, rows] of byCounter) {
    metric(`chv_device_${name}_total`, "counter", `Devices' ${name.replaceAll("_", " ")}`, rows);
  }
  return new Response(`${lines.join("\n")}\n`, { headers: { "content-type": type } });
}

const escaped = (label: string) =>
  label.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
