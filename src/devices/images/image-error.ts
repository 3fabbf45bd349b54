/** An image cannot be served: `message` says what is wrong and what to do, without the image's name. */
export class ImageError extends Error {
  override readonly name = "ImageError";
}

/** A text of an image, fit for a line of a message. */
export const plain = (text: string): string => text.replace(/[^\x20-\x7e\u00a0-\uffff]/g, "?");
