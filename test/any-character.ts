/** Any code point, as `unit: "binary"` of fast-check's strings draws, which takes seconds to set itself up. */
import fc from "fast-check";

const surrogates = { first: 0xd800, count: 0x800 };
const last = 0x10_ffff;

export const anyCharacter = fc
  .oneof(
    { weight: 3, arbitrary: fc.nat(0x7f) },
    { weight: 1, arbitrary: fc.nat(last - surrogates.count) },
  )
  .map((point) =>
    String.fromCodePoint(point < surrogates.first ? point : point + surrogates.count),
  );
