/** What a client can hold against a service. All counts; all zero for a service that keeps its promises. */
export interface Findings {
  /** Replies that are not, to the byte, what the request must be answered with. */
  wrongReplies: number;
  /** Replies that answer another outstanding request than the oldest. */
  outOfOrder: number;
  /** Acknowledged writes that a later reply or the read-back proves gone. */
  lostWrites: number;
  /** Writes that a later reply or the read-back proves applied more than once. */
  duplicatedWrites: number;
  /** Bytes nobody asked for, while no request was outstanding. */
  strayReplies: number;
}

export const noFindings = (): Findings => ({
  wrongReplies: 0,
  outOfOrder: 0,
  lostWrites: 0,
  duplicatedWrites: 0,
  strayReplies: 0,
});

export function addFindings(into: Findings, more: Findings): Findings {
  into.wrongReplies += more.wrongReplies;
  into.outOfOrder += more.outOfOrder;
  into.lostWrites += more.lostWrites;
  into.duplicatedWrites += more.duplicatedWrites;
  into.strayReplies += more.strayReplies;
  return into;
}

/**
 * Two views of the same history, replies and read-back: each may see a loss that the other cannot, and
 * both may see the same one, so the larger count is the honest one.
 */
export function worseFindings(a: Findings, b: Findings): Findings {
  return {
    wrongReplies: Math.max(a.wrongReplies, b.wrongReplies),
    outOfOrder: Math.max(a.outOfOrder, b.outOfOrder),
    lostWrites: Math.max(a.lostWrites, b.lostWrites),
    duplicatedWrites: Math.max(a.duplicatedWrites, b.duplicatedWrites),
    strayReplies: Math.max(a.strayReplies, b.strayReplies),
  };
}
