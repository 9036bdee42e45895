/**
 * What n runs with k failures say about the rate of failure: the one-sided upper bound of Clopper and Pearson,
 * exact for the binomial distribution. With no failure it is 1 - (1 - confidence)^(1/n), about 3/n at 95 %.
 */
export function failureRateUpperBound(n: number, failures: number, confidence = 0.95): number {
  if (n <= 0) return 1;
  if (failures >= n) return 1;
  // The bound is the rate at which so few failures would be seen with probability 1 - confidence.
  let [low, high] = [failures / n, 1];
  for (let i = 0; i < 100; i += 1) {
    const middle = (low + high) / 2;
    if (atMost(n, failures, middle) > 1 - confidence) low = middle;
    else high = middle;
  }
  return high;
}

/** Probability of at most k failures in n runs at rate p; in logarithms, as the terms are tiny. */
function atMost(n: number, k: number, p: number): number {
  if (p <= 0) return 1;
  if (p >= 1) return k >= n ? 1 : 0;
  let logTerm = n * Math.log1p(-p);
  let sum = Math.exp(logTerm);
  for (let i = 1; i <= k; i += 1) {
    logTerm += Math.log((n - i + 1) / i) + Math.log(p) - Math.log1p(-p);
    sum += Math.exp(logTerm);
  }
  return Math.min(1, sum);
}
