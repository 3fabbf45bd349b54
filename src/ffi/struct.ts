/**
 * ABI structs, declared once as data. A layout follows the C rules of x86-64 (natural alignment, size padded to the
 * widest member) and is checked against the size that the header or the specification promises when it is first used.
 *
 * An instance is a view: its getters and setters read and write the memory it lies over in place, little-endian.
 * `packed: true` drops alignment, for tables whose specification lays them out byte by byte.
 */

/** How one field is read and written. `size` and `align` in bytes. */
export interface Field<T> {
  readonly size: number;
  readonly align: number;
  readonly get: (view: DataView, at: number) => T;
  readonly set: (view: DataView, at: number, value: T) => void;
  /** An accessor of its own instead of one over `get` and `set`: for the widths of device registers. */
  readonly direct?: (offset: number) => Direct<T>;
}

/** A property of a view, as `Object.defineProperty` takes it. */
interface Direct<T> {
  get(this: Place): T;
  set(this: Place, value: T): void;
}
interface Place {
  readonly view: DataView;
  readonly at: number;
}

export const u8: Field<number> = {
  size: 1,
  align: 1,
  get: (view, at) => view.getUint8(at),
  set: (view, at, value) => view.setUint8(at, value),
  direct: (offset) => ({
    get() {
      return this.view.getUint8(this.at + offset);
    },
    set(value) {
      this.view.setUint8(this.at + offset, value);
    },
  }),
};

export const u16: Field<number> = {
  size: 2,
  align: 2,
  get: (view, at) => view.getUint16(at, true),
  set: (view, at, value) => view.setUint16(at, value, true),
  direct: (offset) => ({
    get() {
      return this.view.getUint16(this.at + offset, true);
    },
    set(value) {
      this.view.setUint16(this.at + offset, value, true);
    },
  }),
};

export const u32: Field<number> = {
  size: 4,
  align: 4,
  get: (view, at) => view.getUint32(at, true),
  set: (view, at, value) => view.setUint32(at, value, true),
  direct: (offset) => ({
    get() {
      return this.view.getUint32(this.at + offset, true);
    },
    set(value) {
      this.view.setUint32(this.at + offset, value, true);
    },
  }),
};

export const i32: Field<number> = {
  size: 4,
  align: 4,
  get: (view, at) => view.getInt32(at, true),
  set: (view, at, value) => view.setInt32(at, value, true),
};

/** 64 bits that are a pattern (a register, a mask): a bigint. */
export const u64: Field<bigint> = {
  size: 8,
  align: 8,
  get: (view, at) => view.getBigUint64(at, true),
  set: (view, at, value) => view.setBigUint64(at, value, true),
};

/** 64 bits that are an address, a length or a count below 2^53: a number. */
export const addr: Field<number> = {
  size: 8,
  align: 8,
  get: (view, at) => view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true),
  set: (view, at, value) => {
    view.setUint32(at, value % 0x1_0000_0000, true);
    view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
  },
};

/** A double, for times in seconds. */
export const f64: Field<number> = {
  size: 8,
  align: 8,
  get: (view, at) => view.getFloat64(at, true),
  set: (view, at, value) => view.setFloat64(at, value, true),
};

/** `length` bytes, as a Uint8Array that lies over them. Setting copies; the rest is zeroed. */
export function bytes(length: number): Field<Uint8Array> {
  const over = (view: DataView, at: number) =>
    new Uint8Array(view.buffer, view.byteOffset + at, length);
  return {
    size: length,
    align: 1,
    get: over,
    set: (view, at, value) => {
      if (value.length > length) throw new RangeError(`${value.length} bytes for ${length}`);
      const target = over(view, at);
      target.set(value);
      target.fill(0, value.length);
    },
  };
}

/** A struct inside a struct: reading gives a view of it, writing is done through that view. */
export function nested<F extends Fields>(type: StructType<F>): Field<Struct<F>> {
  return {
    size: type.size,
    align: type.align,
    get: (view, at) => new type(view, at),
    set: () => {
      throw new TypeError(`${type.structName}: write its fields, not the whole`);
    },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a table of fields of any type; each field keeps its own
export type Fields = Record<string, Field<any>>;

/** An instance: the fields, and where it lies. */
export type Struct<F extends Fields> = {
  -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
} & {
  readonly view: DataView;
  /** Byte offset in `view`; may be moved, to walk one cursor over a table. */
  at: number;
};

export interface StructType<F extends Fields> {
  /** Over existing memory, or over a new zeroed buffer of its own. */
  new (view?: DataView | ArrayBufferLike, at?: number): Struct<F>;
  readonly structName: string;
  readonly size: number;
  readonly align: number;
  readonly offsets: { readonly [K in keyof F]: number };
  readonly fields: F;
}

/** The instance type of a struct: `Fields of typeof X`. */
export type Of<T> = T extends StructType<infer F> ? Struct<F> : never;

/**
 * Declares a struct. `size` is what the header promises, in bytes; a layout that comes out different is a RangeError
 * when it is first used. Most layouts of a run never are: nothing is worked out before.
 */
export function struct<const F extends Fields>(
  structName: string,
  size: number,
  fields: F,
  { packed = false, align: minimumAlign = 1 }: { packed?: boolean; align?: number } = {},
): StructType<F> {
  let defined = false;
  let known: Layout | undefined;
  const layout = (): Layout => {
    known ??= layOut(structName, size, fields, packed, minimumAlign);
    return known;
  };
  class Instance {
    static readonly structName = structName;
    static readonly size = size;
    static readonly fields = fields;
    readonly view: DataView;
    at: number;
    constructor(view?: DataView | ArrayBufferLike, at = 0) {
      if (!defined) {
        known = layOut(structName, size, fields, packed, minimumAlign, Instance.prototype);
        defined = true;
      }
      if (view instanceof DataView) this.view = view;
      else this.view = new DataView(view ?? new ArrayBuffer(size));
      this.at = at;
    }
    static get offsets(): Record<string, number> {
      return layout().offsets;
    }
    static get align(): number {
      return layout().align;
    }
  }
  return Instance as never;
}

interface Layout {
  readonly offsets: Record<string, number>;
  readonly align: number;
}

/** Gives `prototype`, if there is one, the accessors: in one pass, since a start does it for some thirty structs. */
function layOut(
  structName: string,
  size: number,
  fields: Fields,
  packed: boolean,
  minimumAlign: number,
  prototype?: object,
): Layout {
  const offsets: Record<string, number> = {};
  let end = 0;
  let align = minimumAlign;
  for (const name in fields) {
    if (name === "view" || name === "at") {
      throw new TypeError(`struct ${structName}: a field cannot be called ${name}`);
    }
    const field = fields[name]!;
    const fieldAlign = packed ? 1 : field.align;
    const past = end % fieldAlign;
    const offset = past === 0 ? end : end + fieldAlign - past;
    offsets[name] = offset;
    if (prototype) defineAccessor(prototype, name, field, offset);
    end = offset + field.size;
    if (fieldAlign > align) align = fieldAlign;
  }
  const total = Math.ceil(end / align) * align;
  if (total !== size) {
    throw new RangeError(`struct ${structName} is ${total} bytes, its header says ${size}`);
  }
  return { offsets, align };
}

function defineAccessor(
  prototype: object,
  name: string,
  { get, set, direct }: Field<unknown>,
  offset: number,
): void {
  const accessor: PropertyDescriptor & Partial<Direct<unknown>> = direct?.(offset) ?? {
    get(this: Place) {
      return get(this.view, this.at + offset);
    },
    set(this: Place, value: unknown) {
      set(this.view, this.at + offset, value);
    },
  };
  accessor.enumerable = true;
  accessor.configurable = true; // a layout that is refused is refused again
  Object.defineProperty(prototype, name, accessor);
}

/** `count` values of a field's type, one after another: `get(i)`, `set(i, value)`. */
export interface ArrayView<T> {
  readonly length: number;
  get(index: number): T;
  set(index: number, value: T): void;
}

/** A fixed array inside a struct. Reading gives a view of it; an index outside it is a RangeError. */
export function array<T>(field: Field<T>, count: number): Field<ArrayView<T>> {
  const offsetOf = (index: number) => {
    if (index >= 0 && index < count) return index * field.size;
    throw new RangeError(`index ${index} of an array of ${count}`);
  };
  return {
    size: field.size * count,
    align: field.align,
    get: (view, at) => ({
      length: count,
      get: (index) => field.get(view, at + offsetOf(index)),
      set: (index, value) => field.set(view, at + offsetOf(index), value),
    }),
    set: () => {
      throw new TypeError("write the elements of an array, not the whole");
    },
  };
}
