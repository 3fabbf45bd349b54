/** GRUB's script language (GNU GRUB manual 2.06, section 6.2 "Writing full configuration files"), as it is parsed. */
import { DiskError } from "../medium.ts";

/** A place in a configuration file, to be named: "/boot/grub/grub.cfg:12". */
export interface Place {
  readonly file: string;
  readonly line: number;
}

export const shown = ({ file, line }: Place): string => `${file}:${line}`;

/** Characters of a message: it may quote the configuration, which has words without end. */
const whyMost = 1000;

/** A configuration that chv cannot follow; the place is part of the message. */
export class GrubError extends DiskError {
  constructor(place: Place, why: string) {
    super(`${shown(place)}: ${why.length > whyMost ? `${why.slice(0, whyMost)}…` : why}`);
  }
}

/** A part of a word: text as it is, or a variable's name. What is not quoted is split where it has blanks. */
export interface Part {
  readonly kind: "text" | "variable";
  readonly text: string;
  readonly quoted: boolean;
}

export interface Word {
  readonly parts: readonly Part[];
  readonly line: number;
}

export type Command =
  | {
      readonly kind: "simple";
      readonly at: Place;
      readonly words: readonly Word[];
      /** What stands in braces behind them, as a menu entry has it. */
      readonly block: Block | undefined;
    }
  | {
      readonly kind: "if";
      readonly at: Place;
      readonly branches: readonly { readonly condition: Block; readonly body: Block }[];
      readonly otherwise: Block | undefined;
    }
  | {
      readonly kind: "loop";
      readonly at: Place;
      /** The loop ends when the condition has this outcome. */
      readonly endsOn: boolean;
      readonly condition: Block;
      readonly body: Block;
    }
  | {
      readonly kind: "for";
      readonly at: Place;
      readonly name: string;
      readonly words: readonly Word[];
      readonly body: Block;
    }
  | {
      readonly kind: "function";
      readonly at: Place;
      readonly name: string;
      readonly body: Block;
    };

export type Block = readonly Command[];
