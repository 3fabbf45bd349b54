/** The 16550A as a driver sees it. Values are the PC16550D data sheet's and linux/serial_reg.h's. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import { Serial, SerialState } from "../../../src/devices/legacy/serial.ts";
import { Line, Sink, Source } from "./parts.ts";

const [RX, TX, DLL, IER, DLM, IIR, FCR, LCR, MCR, LSR, MSR, SCR] = [
  0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7,
];
/** MCR: DTR, RTS and OUT2, as Linux sets it. */
const open = 0x0b;

function build({ input = "", room = Number.POSITIVE_INFINITY } = {}) {
  const line = new Line();
  const sink = new Sink(room);
  const source = new Source(input);
  const serial = new Serial(new SerialState(new SharedArrayBuffer(48)), line, sink, source);
  serial.reset();
  const read = (offset: number) => serial.read(offset, 1);
  const write = (offset: number, value: number) => serial.write(offset, 1, value);
  return { serial, line, sink, source, read, write };
}

test("after reset the registers read as table I of the data sheet says", () => {
  const { read } = build();

  expect([IER, IIR, LCR, MCR, LSR].map(read)).toEqual([0, 0x01, 0, 0, 0x60]);
  expect(read(MSR)).toBe(0xb0); // a peer is there: DCD, DSR, CTS; no change seen
});

test("a byte written to TX leaves by the output and the transmitter is empty again", () => {
  const { sink, read, write } = build();

  write(TX, 0x41);

  expect(sink.text).toBe("A");
  expect(read(LSR)).toBe(0x60);
});

test("the divisor latch takes the place of the first two registers while DLAB is set", () => {
  const { sink, read, write } = build();

  write(LCR, 0x83);
  write(DLL, 0x0c);
  write(DLM, 0x01);

  expect([read(DLL), read(DLM)]).toEqual([0x0c, 0x01]);
  write(LCR, 0x03);
  expect([read(RX), read(IER)]).toEqual([0, 0]);
  expect(sink.text).toBe("");
});

test("the divisor is never zero before a driver sets it", () => {
  const { read, write } = build();

  write(LCR, 0x80);

  expect(read(DLL) | (read(DLM) << 8)).toBe(1); // 115200 baud
});

test("the scratch register keeps a byte, IER four bits, MCR five", () => {
  const { read, write } = build();

  for (const offset of [SCR, IER, MCR]) write(offset, 0xff);

  expect([SCR, IER, MCR].map(read)).toEqual([0xff, 0x0f, 0x1f]);
});

test("IIR says that the FIFOs are on, and that they are not those of a 16750", () => {
  const { read, write } = build();

  write(FCR, 0x01 | 0x20); // Linux's 64-byte probe

  expect(read(IIR)).toBe(0xc1);
  write(FCR, 0x00);
  expect(read(IIR)).toBe(0x01);
});

test("enabling the transmitter interrupt raises it at once; reading IIR takes it back", () => {
  const { line, read, write } = build();
  write(MCR, open);

  write(IER, 0x02);

  expect(line.level).toBe(true);
  expect(read(IIR)).toBe(0x02);
  expect(line.level).toBe(false);
  expect(read(IIR)).toBe(0x01);
});

test("the transmitter interrupt comes again after a byte, and each time it is enabled anew", () => {
  const { line, read, write } = build();
  write(MCR, open);
  write(IER, 0x02);
  read(IIR);

  write(TX, 0x41);
  expect(read(IIR)).toBe(0x02);
  write(IER, 0x00);
  write(IER, 0x02);

  expect(read(IIR)).toBe(0x02);
  expect(line.changes).toEqual([true, false, true, false, true, false]);
});

test("without OUT2, and in loopback, no interrupt leaves the chip", () => {
  const { line, read, write } = build();

  write(IER, 0x02);
  expect(line.level).toBe(false);
  write(MCR, 0x08);
  expect(line.level).toBe(true);
  write(MCR, 0x18);
  expect(line.level).toBe(false);

  expect(read(IIR)).toBe(0x02); // the cause is still there to be polled
});

test("causes come in the order line status, received data, transmitter, modem status", () => {
  const { read, write } = build();
  write(FCR, 0x00);
  write(MCR, 0x10); // loopback, all four lines fall: modem status changes
  write(IER, 0x0f);
  write(TX, 0x61);
  write(TX, 0x62); // overruns the one receive register

  expect(read(IIR)).toBe(0x06);
  expect(read(LSR)).toBe(0x63); // DR, OE, THRE, TEMT
  expect(read(IIR)).toBe(0x04);
  expect(read(RX)).toBe(0x62);
  expect(read(IIR)).toBe(0x02);
  expect(read(IIR)).toBe(0x00);
  expect(read(MSR)).toBe(0x0b); // DDCD, DDSR, DCTS
  expect(read(IIR)).toBe(0x01);
});

test.each([
  [0x01, 1],
  [0x41, 4],
  [0x81, 8],
  [0xc1, 14],
])("FCR %p: %p bytes interrupt as data, one less as a time-out", (fcr, trigger) => {
  const { serial, source, read, write } = build();
  write(FCR, fcr);
  write(IER, 0x01);

  source.text = "x".repeat(trigger);
  serial.inputArrived();

  expect(read(IIR)).toBe(0xc4);
  read(RX);
  expect(read(IIR)).toBe(trigger === 1 ? 0xc1 : 0xcc);
});

test("input waits in its ring until a driver listens, and survives the driver's set-up", () => {
  const { serial, source, line, read, write } = build({ input: "uname\n" });

  serial.inputArrived();
  write(FCR, 0x07); // clears both FIFOs
  for (const offset of [LSR, RX, IIR, MSR, LSR, RX, IIR, MSR]) read(offset);
  write(MCR, open);
  expect(source.text).toBe("uname\n");
  write(IER, 0x05);

  expect(line.level).toBe(true);
  expect(drain(read)).toBe("uname\n");
  expect(line.level).toBe(false);
});

test("a zero byte is a byte of the input like any other", () => {
  const { read, write } = build({ input: "a\0b" });

  write(IER, 0x01);

  expect([read(RX), read(RX), read(RX), read(LSR)]).toEqual([0x61, 0, 0x62, 0x60]);
});

test("a driver that polls the line status hears input without an interrupt enabled", () => {
  const { read } = build({ input: "q" });

  for (let poll = 0; poll < 100 && !(read(LSR) & 0x01); poll++);

  expect(read(RX)).toBe(0x71);
  expect(read(LSR)).toBe(0x60);
});

test("reading RX refills the FIFO, so a long input passes whole", () => {
  const text = "the quick brown fox jumps over the lazy dog";
  const { serial, source, read, write } = build();
  write(FCR, 0xc1);
  write(IER, 0x01);

  source.text = text;
  serial.inputArrived();

  expect(source.text).toBe(text.slice(16)); // sixteen in the FIFO, the rest still outside
  expect(drain(read)).toBe(text);
});

test("a full output leaves the transmitter busy; nothing is lost, and room raises the interrupt", () => {
  const { serial, sink, line, read, write } = build({ room: 2 });
  write(FCR, 0x01);
  write(MCR, open);
  write(IER, 0x02);
  read(IIR);

  for (const byte of Buffer.from("0123456789abcdef")) write(TX, byte); // one FIFO, as Linux fills it

  expect(sink.text).toBe("01");
  expect(read(LSR)).toBe(0x00);
  expect([serial.transmitterBusy, line.level]).toEqual([true, false]);
  sink.room = 3;
  serial.transmitterReady();
  expect([sink.text, read(LSR), line.level]).toEqual(["01234", 0x00, false]);
  sink.room = 100;
  serial.transmitterReady();
  expect([sink.text, serial.transmitterBusy]).toEqual(["0123456789abcdef", false]);
  expect([read(LSR), read(IIR)]).toEqual([0x60, 0xc2]);
});

test("what is written to a full FIFO without a look at LSR is lost, and nothing else", () => {
  const { serial, sink, read, write } = build({ room: 0 });
  write(FCR, 0x01);

  for (const byte of Buffer.from("0123456789abcdefXYZ")) write(TX, byte);
  sink.room = 100;
  serial.transmitterReady();

  expect([sink.text, read(LSR)]).toEqual(["0123456789abcdef", 0x60]);
});

test("a driver that polls a busy transmitter finds it empty as soon as there is room", () => {
  const { sink, read, write } = build({ room: 0 });
  write(TX, 0x41);
  expect(read(LSR)).toBe(0x00);

  sink.room = 1;

  expect(read(LSR)).toBe(0x60);
  expect(sink.text).toBe("A");
});

test("neither clearing the FIFO nor a machine reset loses bytes that wait for the output", () => {
  const { serial, sink, write } = build({ room: 0 });
  for (const byte of Buffer.from("panic")) write(TX, byte);

  write(FCR, 0x07);
  serial.reset();
  sink.room = 100;
  serial.transmitterReady();

  expect(sink.text).toBe("panic");
});

test("in loopback what is sent is received, and the output hears nothing", () => {
  const { serial, sink, source, read, write } = build();
  write(FCR, 0x01);
  write(IER, 0x01);
  write(MCR, 0x10);

  source.text = "outside";
  serial.inputArrived();
  for (const byte of Buffer.from("inside")) write(TX, byte);

  expect(drain(read)).toBe("inside");
  expect(sink.text).toBe("");
  write(MCR, 0x00);
  expect(drain(read)).toBe("outside");
});

test("a full receive FIFO in loopback keeps its bytes, drops the new one and says so", () => {
  const { read, write } = build();
  write(FCR, 0x01);
  write(MCR, 0x10);

  for (let byte = 0; byte < 17; byte++) write(TX, byte);

  expect(read(LSR)).toBe(0x63);
  expect(read(LSR)).toBe(0x61); // reading it cleared the overrun
  for (let byte = 0; byte < 16; byte++) expect(read(RX)).toBe(byte);
});

test.each([
  [0x01, 0x20], // DTR: DSR
  [0x02, 0x10], // RTS: CTS
  [0x04, 0x40], // OUT1: RI
  [0x08, 0x80], // OUT2: DCD
  [0x0a, 0x90], // Linux's probe for a UART
])("in loopback MCR %p comes back as MSR %p", (mcr, msr) => {
  const { read, write } = build();

  write(MCR, 0x10 | mcr);

  expect(read(MSR) & 0xf0).toBe(msr);
});

test("the ring indicator reports its trailing edge alone", () => {
  const { read, write } = build();
  write(MCR, 0x10);
  read(MSR);

  write(MCR, 0x14);
  expect(read(MSR)).toBe(0x40);
  write(MCR, 0x10);

  expect(read(MSR)).toBe(0x04);
});

test("switching the FIFOs on empties the receiver", () => {
  const { read, write } = build();
  write(MCR, 0x10);
  write(TX, 0x41);
  expect(read(LSR) & 0x01).toBe(0x01);

  write(FCR, 0x01);

  expect(read(LSR) & 0x01).toBe(0);
});

test("a reset lowers the interrupt line", () => {
  const { serial, line, write } = build();
  write(MCR, open);
  write(IER, 0x02);
  expect(line.level).toBe(true);

  serial.reset();

  expect(line.level).toBe(false);
});

test("wide accesses are served byte by byte, lowest port first", () => {
  const { serial, read } = build();

  serial.write(LCR, 2, 0x0b_03);

  expect([read(LCR), read(MCR)]).toEqual([0x03, 0x0b]);
  expect(serial.read(LCR, 4)).toBe(0xb0_60_0b_03);
});

test("all of the state lies in the struct: another instance over it carries on", () => {
  const { serial, sink, line, write } = build({ room: 0 });
  write(SCR, 0x5a);
  write(TX, 0x41);

  const other = new Serial(serial.state, line, sink, new Source());
  sink.room = 1;
  other.transmitterReady();

  expect(sink.text).toBe("A");
  expect(other.read(SCR, 1)).toBe(0x5a);
});

const access = fc.record({
  write: fc.boolean(),
  offset: fc.integer({ min: 0, max: 7 }),
  size: fc.constantFrom<AccessSize>(1, 2, 4),
  value: fc.nat(0xffff_ffff),
});

test("whatever a guest does: no value is wider than its access, and output keeps its order", () => {
  fc.assert(
    fc.property(fc.array(access), fc.nat(40), fc.string(), (accesses, room, input) => {
      const { serial, sink, line } = build({ room, input });
      for (const { write, offset, size, value } of accesses) {
        if (write) serial.write(offset, size, value % 2 ** (8 * size));
        else {
          const got = serial.read(offset, size);
          expect(Number.isInteger(got) && got >= 0 && got < 2 ** (8 * size)).toBe(true);
        }
      }
      const before = sink.text;
      sink.room = 100;
      serial.transmitterReady();
      expect(sink.text.startsWith(before)).toBe(true);
      expect(serial.read(LSR, 1) & 0x60).toBe(0x60);
      expect(line.changes.every((level, i) => level === (i % 2 === 0))).toBe(true);
    }),
  );
});

/** Reads RX for as long as the line status says that there is data. */
function drain(read: (offset: number) => number): string {
  let text = "";
  while (read(LSR) & 0x01) text += String.fromCharCode(read(RX));
  return text;
}
