// A certified OpenID Connect provider (npm `oidc-provider`) for the tests: access tokens as JWTs for one API, and
// ID tokens by the authorization code flow. Arguments: the port, and the keys as a JSON list of private JWKs.
// `POST /keys` puts other keys in their place: the first one of a kind signs, all of them are published.
import { createServer } from 'node:http';
import { createHash, randomBytes } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, keys] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const api = 'https://api.example.com';
const scopes = 'users:read credits:spend';

function provider(keys) {
  const algorithms = { es: 'ES256', rs: 'RS256' };
  const made = new Provider(issuer, {
    jwks: { keys },
    clients: [
      ...Object.keys(algorithms).map((id) => ({
        client_id: `program-${id}`, client_secret: 'program-secret-1234567890', grant_types: ['client_credentials'],
        redirect_uris: [], response_types: [], scope: scopes,
      })),
      ...Object.entries(algorithms).map(([id, alg]) => ({
        client_id: `web-${id}`, client_secret: 'web-secret-1234567890', grant_types: ['authorization_code'],
        redirect_uris: [`${issuer}/callback`], response_types: ['code'], id_token_signed_response_alg: alg,
      })),
    ],
    pkce: { required: () => false },
    scopes: ['openid', ...scopes.split(' ')],
    claims: { openid: ['sub', 'email'] },
    conformIdTokenClaims: false,
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, email: 'ada@example.com' }) }),
    extraTokenClaims: (_, token) => (token.accountId ? { groups: [token.accountId === 'root' ? 'Admins' : 'Users'] } : {}),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => api,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, __, client) => ({
          scope: scopes, audience: api, accessTokenFormat: 'jwt', accessTokenTTL: 600,
          jwt: { sign: { alg: algorithms[client.clientId.split('-')[1]] } },
        }),
      },
    },
    // Whoever is named by the parameter `login_hint` has logged in and agreed.
    loadExistingGrant: async (ctx) => {
      const grant = new made.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope('openid');
      grant.addResourceScope(api, scopes);
      await grant.save();
      return grant;
    },
    interactions: { url: (_, interaction) => `/login/${interaction.uid}` },
    cookies: { keys: [randomBytes(16).toString('hex')] },
  });
  return made;
}

let current = provider(JSON.parse(keys));

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

createServer(async (request, response) => {
  try {
    if (request.method === 'POST' && request.url === '/keys') {
      current = provider(JSON.parse(await body(request)));
      response.end('ok');
    } else if (request.url.startsWith('/login/')) {
      const { params } = await current.interactionDetails(request, response);
      await current.interactionFinished(request, response, { login: { accountId: params.login_hint } });
    } else {
      current.callback()(request, response);
    }
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error.stack));
  }
}).listen(Number(port), '127.0.0.1', () => console.log(`ready ${createHash('sha256').update(issuer).digest('hex').slice(0, 8)}`));
