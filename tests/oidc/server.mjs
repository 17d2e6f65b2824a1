// A real authorization server for the end-to-end tests: oidc-provider, configured as an operator would for a service
// that takes JWT access tokens with authorization details (RFC 9068, RFC 9396), bound by DPoP (RFC 9449) or to a
// certificate (RFC 8705) where the client is registered so.
//
//   node server.mjs ISSUER AUDIENCE        prints `listening PORT`; ends when its standard input does
//
//   POST /token              client_credentials; `task` in the body becomes the claim `txn`
//   GET  /jwks               the published keys
//   POST /rotate/announce    publishes a new key of each algorithm, and goes on signing with the old
//   POST /rotate/switch      signs with the new
//   POST /rotate/retire      withdraws the old
import http from 'node:http';
import { exportJWK, generateKeyPair } from 'jose';
import Provider, { errors } from 'oidc-provider';

const [issuer, audience] = process.argv.slice(2);
const SECRET = 'not-much-of-a-secret';
const SCOPES = 'orders.read orders.refund';

// How the tokens of each client are signed, and what they are bound to.
const CLIENTS = {
  agent: { alg: 'ES256' },
  'agent-rsa': { alg: 'RS256' },
  'agent-dpop': { alg: 'ES256', metadata: { dpop_bound_access_tokens: true } },
  'agent-mtls': { alg: 'ES256', metadata: { tls_client_certificate_bound_access_tokens: true } },
};

const clients = Object.entries(CLIENTS).map(([client_id, { metadata }]) => ({
  client_id,
  client_secret: SECRET,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: 'client_secret_basic',
  authorization_details_types: ['order'],
  ...metadata,
}));

let generation = 0;

async function newKeys() {
  generation += 1;
  return Promise.all(['ES256', 'RS256'].map(async (alg) => {
    const { privateKey } = await generateKeyPair(alg, { extractable: true });
    return { ...await exportJWK(privateKey), kid: `as-${alg}-${generation}`, alg, use: 'sig' };
  }));
}

/** A provider that publishes `keys` and signs with the first of each algorithm. */
function provider(keys) {
  const it = new Provider(issuer, {
    clients,
    jwks: { keys },
    scopes: SCOPES.split(' '),
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    ttl: { ClientCredentials: 300 },
    extraTokenClaims: (ctx) => (ctx.oidc.body.task ? { txn: ctx.oidc.body.task } : undefined),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      dPoP: { enabled: true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        // The TLS proxy before it hands the certificate on, as nginx does with $ssl_client_escaped_cert.
        getCertificate: (ctx) => decodeURIComponent(ctx.get('x-client-certificate')) || undefined,
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        getResourceServerInfo(ctx, resource, client) {
          if (resource !== audience) throw new errors.InvalidTarget();
          return {
            audience,
            scope: SCOPES,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: CLIENTS[client.clientId].alg } },
          };
        },
      },
      richAuthorizationRequests: {
        enabled: true,
        types: {
          order: {
            validate(ctx, detail) {
              const known = ['read', 'refund'];
              if (!detail.actions?.every((action) => known.includes(action))) {
                throw new errors.InvalidAuthorizationDetails('an order can be read or refunded');
              }
            },
          },
        },
        authorizationDetailsForAccessToken(ctx) {
          const asked = ctx.oidc.params.authorization_details ?? ctx.oidc.body.authorization_details;
          return asked === undefined ? undefined : JSON.parse(asked);
        },
      },
    },
  });
  it.on('server_error', (ctx, error) => console.error(error));
  it.on('grant.error', (ctx, error) => console.error(error.message, error.error_detail ?? ''));
  return it.callback();
}

let old = await newKeys();
let next = [];
let handle = provider(old);

const steps = {
  '/rotate/announce': async () => {
    next = await newKeys();
    handle = provider([...old, ...next]);
  },
  '/rotate/switch': () => {
    handle = provider([...next, ...old]);
  },
  '/rotate/retire': () => {
    handle = provider(next);
    [old, next] = [next, []];
  },
};

const server = http.createServer(async (request, response) => {
  const step = request.method === 'POST' && steps[request.url];
  if (!step) return handle(request, response);
  await step();
  return response.writeHead(204).end();
});
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
process.stdin.resume().on('end', () => process.exit());
