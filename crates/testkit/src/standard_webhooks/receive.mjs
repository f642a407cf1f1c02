// Receives webhooks and verifies them with the official library of Standard Webhooks; asked and answering as receive.py.

import http from "node:http";
import readline from "node:readline";
import standardwebhooks from "standardwebhooks";

const secrets = new Map();
const answers = new Map();
const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function take(line) {
    const asked = JSON.parse(line);
    for (const [path, secret] of Object.entries(asked.secrets ?? {})) {
        secrets.set(path, new standardwebhooks.Webhook(secret));
    }
    for (const [path, status] of Object.entries(asked.answers ?? {})) {
        answers.set(path, status);
    }
    return asked;
}

function received(path, headers, body) {
    const answer = answers.get(path) ?? 204;
    if (answer >= 300) {
        return answer;
    }
    try {
        secrets.get(path).verify(body, headers);
    } catch (error) {
        write({ path, refused: String(error) });
        return 401;
    }
    const signatures = headers["webhook-signature"].split(" ").length;
    write({ path, id: headers["webhook-id"], timestamp: headers["webhook-timestamp"], signatures, body });
    return answer;
}

const server = http.createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
        const body = Buffer.concat(chunks).toString("utf8");
        response.writeHead(received(request.url, request.headers, body), { "content-length": 0 }).end();
    });
});

let begun = false;
for await (const line of readline.createInterface({ input: process.stdin })) {
    const { port } = take(line);
    if (!begun) {
        begun = true;
        await new Promise((listening) => server.listen(port, "127.0.0.1", listening));
    }
    write({ port: server.address().port });
}
process.exit(0);
