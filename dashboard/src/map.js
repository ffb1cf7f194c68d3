// The map: places on the earth to places on a canvas, and the drawing. No tiles, no network.

import { age } from "./format.js";

/**
 * @typedef {{ x: number, y: number }} Point
 * @typedef {{ minX: number, maxX: number, minY: number, maxY: number }} Bounds in degrees
 * @typedef {{ id: string, position: { x: number, y: number, heading: number, ageMs: number, stale: boolean },
 *   live: boolean, selected: boolean, trail: { x: number, y: number, at: number }[] }} Marker
 */

/** Room around everything, in canvas pixels. */
const MARGIN = 44;
/** The map never zooms in further than this many degrees of latitude (about 150 m). */
const SMALLEST_SPAN = 150 / 111_320;
/** A trail is broken where nothing was heard for this long, in milliseconds. */
const GAP_MS = 5000;

/**
 * The smallest bounds around these points and `before`; null while there is nothing.
 * @param {Bounds | null} before
 * @param {Point[]} points
 * @returns {Bounds | null}
 */
export function grow(before, points) {
  return points.reduce((/** @type {Bounds | null} */ bounds, { x, y }) => bounds ? {
    minX: Math.min(bounds.minX, x),
    maxX: Math.max(bounds.maxX, x),
    minY: Math.min(bounds.minY, y),
    maxY: Math.max(bounds.maxY, y),
  } : { minX: x, maxX: x, minY: y, maxY: y }, before);
}

/**
 * The projection that fits these bounds onto a canvas: equirectangular around their middle, north up,
 * the same scale both ways, so that a circle on the ground stays one. Good for a few tens of
 * kilometres.
 * @param {Bounds} bounds
 * @param {number} width in pixels
 * @param {number} height in pixels
 */
export function projection(bounds, width, height) {
  const [midX, midY] = [(bounds.minX + bounds.maxX) / 2, (bounds.minY + bounds.maxY) / 2];
  // A degree of longitude shrinks towards the poles.
  const shrink = Math.max(Math.cos((midY * Math.PI) / 180), 0.01);
  const spanX = Math.max((bounds.maxX - bounds.minX) * shrink, SMALLEST_SPAN);
  const spanY = Math.max(bounds.maxY - bounds.minY, SMALLEST_SPAN);
  const room = (/** @type {number} */ size) => Math.max(size - 2 * MARGIN, 1);
  const scale = Math.min(room(width) / spanX, room(height) / spanY);
  return {
    /** Pixels per metre. */
    perMetre: scale / 111_320,
    /** @param {Point} point @returns {Point} */
    project: ({ x, y }) => ({ x: width / 2 + (x - midX) * shrink * scale, y: height / 2 - (y - midY) * scale }),
  };
}

/**
 * The longest of 1, 2, 5, 10, 20, 50, ... metres that fits into `pixels`.
 * @param {number} perMetre
 * @param {number} pixels
 */
export function scaleBar(perMetre, pixels) {
  const longest = pixels / perMetre;
  const power = 10 ** Math.floor(Math.log10(longest));
  const metres = [5, 2, 1].map((step) => step * power).find((step) => step <= longest) ?? power;
  return { metres, pixels: metres * perMetre, label: metres >= 1000 ? `${metres / 1000} km` : `${metres} m` };
}

export class TrackMap {
  /** @type {Bounds | null} */
  #bounds = null;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
  }

  /** @param {Marker[]} markers */
  draw(markers) {
    const context = this.#context();
    if (!context) return;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    context.clearRect(0, 0, width, height);
    for (const marker of markers) this.#bounds = grow(grow(this.#bounds, marker.trail), [marker.position]);
    if (!this.#bounds) return;
    const colours = this.#colours();
    const { project, perMetre } = projection(this.#bounds, width, height);
    for (const marker of markers) drawTrail(context, marker, project, colours);
    for (const marker of markers) drawVehicle(context, marker, project(marker.position), colours);
    drawScale(context, scaleBar(perMetre, 120), height, colours);
  }

  /** The context, scaled so that one unit is one CSS pixel. */
  #context() {
    const { canvas } = this;
    const density = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * density), Math.round(canvas.clientHeight * density)];
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    context?.setTransform(density, 0, 0, density, 0, 0);
    return context;
  }

  #colours() {
    const style = getComputedStyle(this.canvas);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    return {
      ground: colour("--map"),
      ink: colour("--ink"),
      quiet: colour("--quiet"),
      road: colour("--road"),
      live: colour("--live"),
      accent: colour("--accent"),
    };
  }
}

/** @typedef {{ ground: string, ink: string, quiet: string, road: string, live: string, accent: string }} Colours */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Marker} marker
 * @param {(point: Point) => Point} project
 * @param {Colours} colours
 */
function drawTrail(context, { trail, position, selected, live }, project, colours) {
  context.beginPath();
  const last = trail.at(-1);
  // The last few metres, up to where the vehicle is.
  const whole = live && last ? [...trail, { ...position, at: last.at }] : trail;
  whole.forEach((place, index) => {
    const { x, y } = project(place);
    const before = whole[index - 1];
    if (before && place.at - before.at <= GAP_MS) context.lineTo(x, y);
    else context.moveTo(x, y);
  });
  context.lineJoin = "round";
  context.lineCap = "round";
  context.lineWidth = selected ? 4 : 3;
  context.strokeStyle = selected ? colours.accent : colours.road;
  context.globalAlpha = selected ? 0.55 : 1;
  context.stroke();
  context.globalAlpha = 1;
}

/**
 * A filled arrow where a vehicle is; a hollow one, with its age, where it was.
 * @param {CanvasRenderingContext2D} context
 * @param {Marker} marker
 * @param {Point} at
 * @param {Colours} colours
 */
function drawVehicle(context, marker, at, colours) {
  const { position, live, selected, id } = marker;
  const colour = live ? (selected ? colours.accent : colours.live) : colours.quiet;
  context.save();
  context.translate(at.x, at.y);
  context.save();
  shape(context, position.heading, selected ? 11 : 9);
  context.restore();
  context.lineWidth = 2.5;
  context.strokeStyle = live ? colours.ground : colour;
  context.fillStyle = live ? colour : colours.ground;
  if (!live) context.setLineDash([3, 3]);
  context.fill();
  context.stroke();
  context.restore();
  label(context, live ? id : `${id}: ${age(position.ageMs)} ago`, at, live ? colours.ink : colours.quiet, colours);
}

/**
 * The path of an arrow by heading, in degrees from north; a dot where there is none.
 * @param {CanvasRenderingContext2D} context
 * @param {number} heading
 * @param {number} size
 */
function shape(context, heading, size) {
  context.beginPath();
  if (Number.isNaN(heading)) {
    context.arc(0, 0, size * 0.7, 0, 2 * Math.PI);
    return;
  }
  context.rotate((heading * Math.PI) / 180);
  context.moveTo(0, -size * 1.2);
  context.lineTo(size * 0.8, size);
  context.lineTo(0, size * 0.55);
  context.lineTo(-size * 0.8, size);
  context.closePath();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {Point} at
 * @param {string} colour
 * @param {Colours} colours
 */
function label(context, text, at, colour, colours) {
  context.font = "600 13px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.lineWidth = 4;
  context.lineJoin = "round";
  context.strokeStyle = colours.ground;
  const width = context.measureText(text).width;
  const x = at.x + 15 + width < context.canvas.clientWidth ? at.x + 15 : at.x - 15 - width;
  context.strokeText(text, x, at.y - 12);
  context.fillStyle = colour;
  context.fillText(text, x, at.y - 12);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{ pixels: number, label: string }} bar
 * @param {number} height
 * @param {Colours} colours
 */
function drawScale(context, bar, height, colours) {
  context.beginPath();
  context.moveTo(16, height - 22);
  context.lineTo(16, height - 16);
  context.lineTo(16 + bar.pixels, height - 16);
  context.lineTo(16 + bar.pixels, height - 22);
  context.lineWidth = 1.5;
  context.strokeStyle = colours.quiet;
  context.stroke();
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "alphabetic";
  context.fillStyle = colours.quiet;
  context.fillText(bar.label, 20, height - 22);
}
