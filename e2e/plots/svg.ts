/** Small SVG charts, readable on light and dark pages: no background, text in the page's own shade. */

export interface Series {
  name: string;
  values: (number | undefined)[];
}

export interface BarChart {
  title: string;
  unit: string;
  categories: string[];
  series: Series[];
  /** A promise, drawn as a dashed line. */
  limit?: { value: number; name: string };
  logarithmic?: boolean;
}

const width = 760;
const height = 380;
const margin = { left: 72, right: 24, top: 64, bottom: 64 };
/** Colours that can be told apart on white, on black and by the colour-blind (Okabe and Ito). */
const colors = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];

const style = `
    text { font: 12px system-ui, sans-serif; fill: #444 }
    .title { font-size: 15px; font-weight: 600 }
    .axis { stroke: #888; fill: none }
    .grid { stroke: #8884 }
    .limit { stroke: #d55e00; stroke-dasharray: 6 4 }
    @media (prefers-color-scheme: dark) { text { fill: #ccc } }`;

interface Scale {
  max: number;
  ticks: number[];
  y(value: number): number;
}

export function barChart(chart: BarChart): string {
  const values = chart.series.flatMap(({ values: all }) => all.filter((v) => v !== undefined));
  const highest = Math.max(1e-9, ...values, chart.limit?.value ?? 0);
  const lowest = Math.min(...values.filter((value) => value > 0));
  const scale = chart.logarithmic ? logScale(lowest, highest) : linearScale(highest);
  const parts = [
    `<text class="title" x="${margin.left}" y="24">${escapeXml(chart.title)}</text>`,
    ...legend(chart.series),
    ...axes(scale, chart.unit),
    ...bars(chart, scale),
    ...limitLine(chart, scale),
  ];
  return document(parts, chart.title);
}

function document(parts: string[], title: string): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeXml(title)}">`,
    `  <style>${style}\n  </style>`,
    ...parts.map((part) => `  ${part}`),
    "</svg>",
    "",
  ].join("\n");
}

const bottom = height - margin.bottom;
const plotHeight = height - margin.top - margin.bottom;
const plotWidth = width - margin.left - margin.right;

/** The next number of the form 1, 2 or 5 times a power of ten. */
export function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10;
  return step * power;
}

function linearScale(highest: number): Scale {
  const step = niceStep(highest / 5);
  const max = Math.ceil(highest / step) * step;
  const ticks = Array.from({ length: Math.round(max / step) + 1 }, (_, i) => i * step);
  return { max, ticks, y: (value) => bottom - (value / max) * plotHeight };
}

function logScale(lowest: number, highest: number): Scale {
  // Below the lowest value, or its bar would have no height.
  const from = Math.floor(Math.log10(lowest * 0.7));
  const to = Math.max(from + 1, Math.ceil(Math.log10(highest)));
  const ticks = Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));
  const y = (value: number) =>
    bottom - ((Math.log10(Math.max(value, 10 ** from)) - from) / (to - from)) * plotHeight;
  return { max: 10 ** to, ticks, y };
}

function axes(scale: Scale, unit: string): string[] {
  const right = width - margin.right;
  return [
    ...scale.ticks.flatMap((tick) => [
      `<line class="grid" x1="${margin.left}" x2="${right}" y1="${fixed(scale.y(tick))}" y2="${fixed(scale.y(tick))}"/>`,
      `<text x="${margin.left - 8}" y="${fixed(scale.y(tick) + 4)}" text-anchor="end">${label(tick)}</text>`,
    ]),
    `<line class="axis" x1="${margin.left}" x2="${right}" y1="${bottom}" y2="${bottom}"/>`,
    `<text x="16" y="${margin.top - 14}">${escapeXml(unit)}</text>`,
  ];
}

function bars(chart: BarChart, scale: Scale): string[] {
  const { categories, series } = chart;
  const group = plotWidth / categories.length;
  const bar = Math.min(46, (group * 0.8) / series.length);
  return categories.flatMap((category, i) => {
    const center = margin.left + group * (i + 0.5);
    const drawn = series.flatMap(({ values }, j) => {
      const value = values[i];
      if (value === undefined) return [];
      const x = center + (j - series.length / 2) * bar;
      const top = scale.y(value);
      return [
        `<rect x="${fixed(x)}" y="${fixed(top)}" width="${fixed(bar - 2)}" height="${fixed(Math.max(0, bottom - top))}" fill="${colors[j % colors.length]}"/>`,
        `<text x="${fixed(x + bar / 2 - 1)}" y="${fixed(top - 4)}" text-anchor="middle" font-size="10">${label(value)}</text>`,
      ];
    });
    return [
      ...drawn,
      `<text x="${fixed(center)}" y="${bottom + 18}" text-anchor="middle">${escapeXml(category)}</text>`,
    ];
  });
}

function limitLine(chart: BarChart, scale: Scale): string[] {
  if (!chart.limit) return [];
  const y = fixed(scale.y(chart.limit.value));
  const right = width - margin.right;
  return [
    `<line class="limit" x1="${margin.left}" x2="${right}" y1="${y}" y2="${y}"/>`,
    `<text x="${right}" y="${Number(y) - 5}" text-anchor="end">${escapeXml(chart.limit.name)}</text>`,
  ];
}

function legend(series: Series[]): string[] {
  return series.map(({ name }, i) => {
    const x = margin.left + i * 170;
    const y = height - 18;
    return `<g><rect x="${x}" y="${y - 10}" width="12" height="12" fill="${colors[i % colors.length]}"/><text x="${x + 18}" y="${y}">${escapeXml(name)}</text></g>`;
  });
}

/** 12,000 → 12k; small numbers as they are. */
export function label(value: number): string {
  if (value === 0) return "0";
  if (value >= 1_000_000) return `${trim(value / 1_000_000)}M`;
  if (value >= 1_000) return `${trim(value / 1_000)}k`;
  return trim(value);
}

function trim(value: number): string {
  return String(Number(value.toPrecision(3)));
}

const fixed = (value: number): string => value.toFixed(1);

export function escapeXml(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replaceAll(/[&<>"]/g, (character) => entities[character] ?? character);
}
