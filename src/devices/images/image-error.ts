/** An image cannot be served: `message` says what is wrong and what to do, without the image's name. */
export class ImageError extends Error {
  override readonly name = "ImageError";
}
