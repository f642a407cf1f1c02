// Shows the document. The bundle is a module, and would send telemetry if it were not told otherwise.
import { init } from "/redoc/redoc.standalone.js";

init("/openapi.json", { disableTelemetry: true }, document.getElementById("page"));
