/** JSON as clients of this API can take it: ASCII alone, since some cut what they read anywhere. */

export const asciiJson = (value: unknown): string => ascii(JSON.stringify(value));

/** The same JSON, with what is not ASCII in its strings escaped. */
export function ascii(json: string): string {
  return json.replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
