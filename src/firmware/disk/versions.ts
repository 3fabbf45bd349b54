/**
 * Order of versions as the Boot Loader Specification has it (UAPI.10, "Version Format Specification"): numbers by
 * value, words by their letters, `~` before everything, even the end.
 */
export function compareVersions(a: string, b: string): number {
  let [left, right] = [a, b];
  for (;;) {
    left = left.replace(/^[^A-Za-z0-9~\-^.]+/, "");
    right = right.replace(/^[^A-Za-z0-9~\-^.]+/, "");
    for (const sign of ["~", "-", "^", "."]) {
      const [one, other] = [left.startsWith(sign), right.startsWith(sign)];
      if (sign === "-" && (left === "" || right === "")) {
        if (left === right) return 0;
        return left === "" ? -1 : 1;
      }
      if (one !== other) return one ? -1 : 1;
      if (one && other) {
        left = left.slice(1);
        right = right.slice(1);
      }
    }
    const digits = /^[0-9]/.test(left) || /^[0-9]/.test(right);
    const pattern = digits ? /^[0-9]*/ : /^[A-Za-z]*/;
    const [one, other] = [pattern.exec(left)![0], pattern.exec(right)![0]];
    const order = digits ? compareDigits(one, other) : compareText(one, other);
    if (order !== 0) return order;
    left = left.slice(one.length);
    right = right.slice(other.length);
    if (left === "" && right === "") return 0;
  }
}

function compareDigits(a: string, b: string): number {
  const [one, other] = [a.replace(/^0+/, ""), b.replace(/^0+/, "")];
  return one.length - other.length || compareText(one, other);
}

/** By code units: what is ASCII here. */
export const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
