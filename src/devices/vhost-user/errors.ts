/** What a front end can do wrong. Neither ever leaves the session. */

/** The message is none: the connection ends. */
export class BadMessage extends Error {
  override readonly name = "BadMessage";
}

/** The message is understood and cannot be done: the answer says so, if one was asked for; else the connection ends. */
export class Refusal extends Error {
  override readonly name = "Refusal";
}
