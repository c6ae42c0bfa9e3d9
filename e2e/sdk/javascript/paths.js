// An app that reports the path that Express routes by: as it came, and with the parameter that a route takes from it decoded.
const express = require('express');

const app = express();
app.all(/^\/(.*)$/, (request, response) => {
  response.json({ routed: [request.path, `/${request.params[0]}`] });
});
// What Express itself refuses, such as a broken escape.
app.use((error, request, response, next) => response.status(error.status || 500).json({ routed: [] }));
app.listen(Number(process.argv[2]), '127.0.0.1');
