/**
 * The driver broke the rules of a queue. The device's host sets DEVICE_NEEDS_RESET, logs the message once, and goes on.
 */
export class GuestFault extends Error {
  constructor(message: string) {
    super(message);
    this.name = "GuestFault";
  }
}
