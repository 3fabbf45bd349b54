/** Finds the escape key in what a person types: Ctrl-A, then x; Ctrl-A twice stands for one Ctrl-A. */

const escapeKey = 0x01;
const leaveKey = 0x78;

export interface Typed {
  /** What is meant for the guest. */
  readonly bytes: Uint8Array;
  /** The person wants to leave; nothing that follows counts. */
  readonly leave: boolean;
}

/** A function that takes what was typed, piece by piece. */
export function escapeKeys(): (piece: Uint8Array) => Typed {
  let escaped = false;
  return (piece) => {
    const bytes: number[] = [];
    for (const byte of piece) {
      if (!escaped && byte === escapeKey) {
        escaped = true;
        continue;
      }
      if (escaped && byte === leaveKey) return { bytes: Uint8Array.from(bytes), leave: true };
      if (escaped && byte !== escapeKey) bytes.push(escapeKey);
      bytes.push(byte);
      escaped = false;
    }
    return { bytes: Uint8Array.from(bytes), leave: false };
  };
}
