// A clock for ages. `performance.now()` may stand still while the computer sleeps, `Date.now()` may
// be set; whichever of the two moved further is believed, so nothing ever looks younger than it is.

/**
 * @param {() => number} steady milliseconds, never runs backwards, may pause
 * @param {() => number} wall milliseconds, never pauses, may jump
 * @returns {() => number} milliseconds since some moment in the past; never runs backwards
 */
export function createClock(steady, wall) {
  let now = 0;
  let lastSteady = steady();
  let lastWall = wall();
  return () => {
    const [nextSteady, nextWall] = [steady(), wall()];
    now += Math.max(0, nextSteady - lastSteady, nextWall - lastWall);
    [lastSteady, lastWall] = [nextSteady, nextWall];
    return now;
  };
}
