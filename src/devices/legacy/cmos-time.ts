/**
 * The MC146818's time and alarm bytes (Motorola MC146818 data sheet, 1984, table 3): binary or BCD, 24 or 12 hours as
 * register B says. Numbers from a guest may be nonsense; they give some time, or an alarm that never rings.
 */

/** Addresses of the time's bytes. */
export const TimeByte = {
  second: 0x00,
  secondAlarm: 0x01,
  minute: 0x02,
  minuteAlarm: 0x03,
  hour: 0x04,
  hourAlarm: 0x05,
  weekday: 0x06,
  day: 0x07,
  month: 0x08,
  year: 0x09,
  /** Not the chip's: where PCs keep it, and where the FADT's CENTURY points. */
  century: 0x32,
} as const;

/** Register B: how the bytes are written. */
export const Format = { hours24: 0x02, binary: 0x04 } as const;

const pm = 0x80;
/** An alarm byte with both top bits set matches everything. */
const dontCare = 0xc0;
const day = 86_400;
/** From any second to the next alarm: at most 24 hours, 60 minutes and 60 seconds forward, twice. */
const alarmSteps = 400;

/** A number of 0 to 99 as a byte. */
function encode(value: number, b: number): number {
  if (b & Format.binary) return value & 0xff;
  return ((Math.trunc(value / 10) << 4) | (value % 10)) & 0xff;
}

function decode(byte: number, b: number): number {
  return b & Format.binary ? byte : (byte >> 4) * 10 + (byte & 0x0f);
}

function encodeHour(hour: number, b: number): number {
  if (b & Format.hours24) return encode(hour, b);
  return encode(hour % 12 || 12, b) | (hour >= 12 ? pm : 0);
}

function decodeHour(byte: number, b: number): number {
  if (b & Format.hours24) return decode(byte, b);
  return (decode(byte & ~pm, b) % 12) + (byte & pm ? 12 : 0);
}

/** Writes the time's bytes: `ms` since 1970, UTC. */
export function storeTime(ram: Uint8Array, ms: number, b: number): void {
  const date = new Date(ms);
  const year = date.getUTCFullYear();
  ram[TimeByte.second] = encode(date.getUTCSeconds(), b);
  ram[TimeByte.minute] = encode(date.getUTCMinutes(), b);
  ram[TimeByte.hour] = encodeHour(date.getUTCHours(), b);
  ram[TimeByte.weekday] = date.getUTCDay() + 1;
  ram[TimeByte.day] = encode(date.getUTCDate(), b);
  ram[TimeByte.month] = encode(date.getUTCMonth() + 1, b);
  ram[TimeByte.year] = encode(year % 100, b);
  ram[TimeByte.century] = encode(Math.trunc(year / 100) % 100, b);
}

/** The time that the bytes say, in ms since 1970. The weekday follows from the date and is not looked at. */
export function loadTime(ram: Uint8Array, b: number): number {
  const byte = (at: number) => decode(ram[at]!, b);
  const date = new Date(0);
  date.setUTCFullYear(
    byte(TimeByte.century) * 100 + byte(TimeByte.year),
    byte(TimeByte.month) - 1,
    byte(TimeByte.day),
  );
  date.setUTCHours(
    decodeHour(ram[TimeByte.hour]!, b),
    byte(TimeByte.minute),
    byte(TimeByte.second),
  );
  return date.getTime();
}

/** The first second after `second` (both since 1970) at which the alarm rings; Infinity when it never does. */
export function nextAlarm(ram: Uint8Array, second: number, b: number): number {
  const hours = ram[TimeByte.hourAlarm]!;
  const hour = hours >= dontCare ? -1 : decodeHour(hours, b);
  const minute = alarmNumber(ram[TimeByte.minuteAlarm]!, b);
  const wanted = alarmNumber(ram[TimeByte.secondAlarm]!, b);
  if (hour > 23 || minute > 59 || wanted > 59) return Number.POSITIVE_INFINITY;
  let at = second + 1;
  for (let step = 0; step < alarmSteps; step++) {
    const inDay = at - Math.floor(at / day) * day;
    if (hour >= 0 && Math.trunc(inDay / 3600) !== hour) at += 3600 - (inDay % 3600);
    else if (minute >= 0 && Math.trunc(inDay / 60) % 60 !== minute) at += 60 - (inDay % 60);
    else if (wanted >= 0 && inDay % 60 !== wanted) at++;
    else return at;
  }
  return Number.POSITIVE_INFINITY;
}

/** -1 for "any". */
function alarmNumber(byte: number, b: number): number {
  return byte >= dontCare ? -1 : decode(byte, b);
}
