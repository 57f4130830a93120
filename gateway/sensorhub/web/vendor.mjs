// Copies the browser files of the npm packages to static/vendor, with their licences.
import { copyFileSync, mkdirSync } from "node:fs";

const vendor = new URL("static/vendor/", import.meta.url);
mkdirSync(vendor, { recursive: true });
const files = {
  "uplot/dist/uPlot.esm.js": "uPlot.esm.js",
  "uplot/dist/uPlot.min.css": "uPlot.min.css",
  "uplot/LICENSE": "uPlot.LICENSE",
};
for (const [from, to] of Object.entries(files)) {
  copyFileSync(new URL(`node_modules/${from}`, import.meta.url), new URL(to, vendor));
}
