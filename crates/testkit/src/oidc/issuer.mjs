// An OpenID Connect provider (npm `oidc-provider`) for the tests: access tokens as JWTs for one API, and ID tokens.
// Arguments: the port, and a JSON list of key ids: `r…` is an RSA key, `e…` one on P-256. The client `…-es` gets ES256,
// `…-rs` RS256.
// - `POST /token`: the client credentials grant, as the library does it.
// - `POST /login`, `{"client":"web-rs","sub":"ada"}`: the tokens that the library makes of a login, without its pages.
// - `PUT /keys`, a JSON list: other keys from now on; the first of a kind signs, all are published.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [port, ids] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const api = 'https://api.example.com';
const scope = 'users:read credits:spend';
const algorithms = { es: 'ES256', rs: 'RS256' };
const access = (client) => ({
  scope, audience: api, accessTokenFormat: 'jwt', accessTokenTTL: 600,
  jwt: { sign: { alg: algorithms[client.clientId.split('-')[1]] } },
});

const made = new Map();
function key(id) {
  const [type, options, alg] =
    id[0] === 'r' ? ['rsa', { modulusLength: 2048 }, 'RS256'] : ['ec', { namedCurve: 'P-256' }, 'ES256'];
  const fresh = () => ({ ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), kid: id, alg, use: 'sig' });
  if (!made.has(id)) made.set(id, fresh());
  return made.get(id);
}

const provider = (ids) => new Provider(issuer, {
  jwks: { keys: ids.map(key) },
  clients: Object.entries(algorithms).flatMap(([id, alg]) => [
    {
      client_id: `program-${id}`, client_secret: 'program-secret-1234567890', scope, redirect_uris: [],
      grant_types: ['client_credentials'], response_types: [],
    },
    {
      client_id: `web-${id}`, client_secret: 'web-secret-1234567890', redirect_uris: [`${issuer}/callback`],
      grant_types: ['authorization_code'], response_types: ['code'], id_token_signed_response_alg: alg,
    },
  ]),
  scopes: ['openid', ...scope.split(' ')],
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, email: 'ada@example.com' }) }),
  extraTokenClaims: (_, token) =>
    token.accountId ? { groups: [token.accountId === 'root' ? 'Admins' : 'Users'] } : undefined,
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => api,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, __, client) => access(client),
    },
  },
  interactions: { url: () => '/' },
  cookies: { keys: ['no-cookie-is-ever-sent'] },
  ttl: { ClientCredentials: 600, AccessToken: 600, IdToken: 600, Interaction: 60, Session: 60, Grant: 600 },
});

async function login({ client: id, sub }) {
  const client = await current.Client.find(id);
  const token = new current.AccessToken({ accountId: sub, client, grantId: 'grant', gty: 'authorization_code', scope });
  token.resourceServer = new current.ResourceServer(api, access(client));
  const idToken = new current.IdToken({ sub, email: 'ada@example.com' }, { client });
  idToken.scope = 'openid';
  return { access_token: await token.save(), id_token: await idToken.issue({ use: 'idtoken' }) };
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

let current = provider(JSON.parse(ids));

createServer(async (request, response) => {
  try {
    if (request.method === 'PUT') {
      current = provider(await body(request));
      response.end('{}');
    } else if (request.url === '/login') {
      response.end(JSON.stringify(await login(await body(request))));
    } else {
      current.callback()(request, response);
    }
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error.stack));
  }
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
