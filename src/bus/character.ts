/**
 * A character device and its far end (a terminal, file, pty or socket on the host): what each is to the other. Bytes
 * move between the device's memory, a ring or guest RAM, and a descriptor, without a stop in between.
 */

/** Output on its way out of a device, oldest bytes first. */
export interface OutputSource {
  /** How many of the oldest bytes lie in one piece at `address`; 0 when nothing waits. */
  look(): number;
  /** Host address of what `look` found. */
  readonly address: number;
  /** The oldest `count` bytes of it are done with. */
  consume(count: number): void;
  /** From now on whoever adds output says so. False when some is there: look again. */
  sleep(): boolean;
}

/** Input on its way into a device. */
export interface InputSink {
  /** How many bytes there is room for in one piece at `address`; 0 when the device takes none now. */
  look(): number;
  /** Host address of that room. */
  readonly address: number;
  /** `count` bytes have been put there. */
  produced(count: number): void;
  /** From now on whoever makes room says so. False when there is room, or nobody will say. */
  sleep(): boolean;
}

/** The device, as its far end sees it. */
export interface CharacterDevice {
  readonly output: OutputSource;
  readonly input: InputSink;
  /** What was produced is for the guest to take. */
  inputArrived(): void;
  /** Output has gone; often said when nobody waits for that. */
  transmitterReady(): void;
  /** Somebody has come to the far end, or gone from it. */
  presenceChanged?(present: boolean): void;
  /** The far end is a terminal that now has so many columns and rows. */
  resized?(columns: number, rows: number): void;
}

/** The far end, as its device sees it. */
export interface FarEnd {
  /** Somebody is there, or it is not of the kind that comes and goes. */
  readonly present: boolean;
  /** Output waits for someone who is there to take it. */
  readonly busy: boolean;
  /** The device has put something out. */
  arrived(): void;
  /** Moves what can be moved both ways, and sees to it that the rest follows. Ms until then; -1: at an event. */
  pump(): number;
  /** Takes the output that waits out of the device's memory, which is about to be another's. Whether some is left. */
  keepOutput(): boolean;
  /** What is left is lost. */
  outputLost(): void;
  close(): void;
}
