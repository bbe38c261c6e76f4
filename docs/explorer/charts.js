"use strict";
// Numbers as text, and numbers as SVG: axes, lines, bars. No mathematics here.

const charts = (() => {
  const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const LEFT = 50;
  const RIGHT = 18;
  const TOP = 30;
  const BOTTOM = 40;

  const minus = (text) => text.replace("-", "−");

  const superscript = (n) =>
    String(n).replace(/./g, (d) => (d === "-" ? "⁻" : SUPERSCRIPTS[d]));

  // Four digits, or as many as are asked for; powers of ten where zeros would
  // hide the digits.
  function number(x, digits = 4) {
    if (Number.isNaN(x)) return "—";
    if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
    const rounded = Number(x.toPrecision(digits));
    const [mantissa, exponent] = rounded.toExponential().split("e");
    if (rounded !== 0 && (exponent < -4 || exponent > 5)) {
      const power = `10${superscript(Number(exponent))}`;
      return mantissa === "1" ? power : minus(`${mantissa} × ${power}`);
    }
    return minus(String(rounded));
  }

  function tag(name, attributes, content = "") {
    const text = Object.entries(attributes).map(([key, value]) => {
      const short = typeof value === "number" ? +value.toFixed(2) : value;
      return ` ${key}="${short}"`;
    });
    return `<${name}${text.join("")}>${content}</${name}>`;
  }

  // An axis: {low, high, log, ticks, label, format}.
  const position = ({ low, high, log }, from, to) => {
    const f = log ? Math.log : (x) => x;
    const unit = (to - from) / (f(high) - f(low));
    return (x) => from + (f(x) - f(low)) * unit;
  };

  function logTicks(low, high) {
    const within = (mantissas) => {
      const found = [];
      for (let e = Math.floor(Math.log10(low)); 10 ** e <= high; e++)
        for (const m of mantissas) found.push(Number(`${m}e${e}`));
      return found.filter((x) => x >= low * 0.999 && x <= high * 1.001);
    };
    const choices = [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]];
    return choices.map(within).find((t) => t.length > 2) ?? within([1, 2, 5]);
  }

  function linearTicks(low, high, most = 6, whole = false) {
    const rough = (high - low) / most;
    const decade = 10 ** Math.floor(Math.log10(rough));
    let step = [1, 2, 5, 10].find((m) => m * decade >= rough) * decade;
    if (whole) step = Math.max(1, Math.round(step));
    const first = Math.ceil(low / step - 1e-9);
    const count = Math.floor(high / step + 1e-9) - first + 1;
    return Array.from({ length: count }, (_, i) => (first + i) * step);
  }

  // 1, 2, 5 times a power of ten, at most or at least x.
  function roundDown(x) {
    const decade = 10 ** Math.floor(Math.log10(x));
    return [5, 2, 1].find((m) => m * decade <= x * 1.0001) * decade;
  }

  function roundUp(x) {
    const decade = 10 ** Math.floor(Math.log10(x));
    return [1, 2, 5, 10].find((m) => m * decade >= x * 0.9999) * decade;
  }

  function axes({ x, y, X, Y, left, right, top, bottom }) {
    const parts = [];
    const text = (content, at) => parts.push(tag("text", at, content));
    const line = (x1, y1, x2, y2, kind) =>
      parts.push(tag("line", { x1, y1, x2, y2, class: kind }));
    for (const t of y.ticks) {
      line(left, Y(t), right, Y(t), "grid");
      const label = (y.format ?? number)(t);
      text(label, { x: left - 6, y: Y(t) + 4, "text-anchor": "end" });
    }
    for (const t of x.ticks) {
      line(X(t), bottom, X(t), bottom + 4, "axis");
      const label = (x.format ?? number)(t);
      text(label, { x: X(t), y: bottom + 17, "text-anchor": "middle" });
    }
    line(left, bottom, right, bottom, "axis");
    const middle = { x: (left + right) / 2, "text-anchor": "middle" };
    if (x.label) text(x.label, { ...middle, y: bottom + 34 });
    text(y.label, { x: 2, y: top - 15 });
    return parts.join("");
  }

  // Draws axes and, clipped to them, marks({X, Y, left, right, top, bottom}).
  function draw(svg, { height, x, y, marks, description }) {
    const width = Math.max(240, svg.parentElement.clientWidth);
    const box = { left: LEFT, right: width - RIGHT, top: TOP };
    box.bottom = height - (x.label ? BOTTOM : 22);
    const X = position(x, box.left, box.right);
    const Y = position(y, box.bottom, box.top);
    const clip = tag("rect", {
      x: box.left - 6,
      y: box.top - 6,
      width: box.right - box.left + 12,
      height: box.bottom - box.top + 12,
    });
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    svg.setAttribute("aria-label", description);
    svg.innerHTML = [
      tag("clipPath", { id: `${svg.id}-clip` }, clip),
      axes({ x, y, X, Y, ...box }),
      tag("g", { "clip-path": `url(#${svg.id}-clip)` }, marks({ X, Y, ...box })),
    ].join("");
  }

  // One line through (x, f(x)); what is not finite is left out.
  function curve({ X, Y }, points, attributes) {
    const known = points.filter(([, y]) => Number.isFinite(Y(y)));
    const at = known.map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`);
    return tag("polyline", { points: at.join(" "), class: "curve", ...attributes });
  }

  const dot = ({ X, Y }, x, y, attributes) =>
    Number.isFinite(Y(y)) ? tag("circle", { cx: X(x), cy: Y(y), r: 4, ...attributes }) : "";

  // A bar of no height is still seen.
  const bar = ({ X, Y }, x, width, from, to, attributes) =>
    tag("rect", {
      x: X(x) - width / 2,
      y: Math.min(Y(from), Y(to)),
      width,
      height: Math.max(1.5, Math.abs(Y(to) - Y(from))),
      ...attributes,
    });

  const level = ({ Y, left, right }, y, attributes) =>
    tag("line", { x1: left, x2: right, y1: Y(y), y2: Y(y), ...attributes });

  const upright = ({ X, top, bottom }, x, attributes) =>
    tag("line", { x1: X(x), x2: X(x), y1: top, y2: bottom, ...attributes });

  return {
    bar,
    curve,
    dot,
    draw,
    level,
    linearTicks,
    logTicks,
    number,
    roundDown,
    roundUp,
    tag,
    upright,
  };
})();
