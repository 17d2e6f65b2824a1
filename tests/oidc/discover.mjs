// What an OAuth client does that knows nothing but the URL of a resource, by `oauth4webapi`, which shares no code with
// the filter: it asks for the resource, reads the challenge (RFC 6750, RFC 9728 section 5.1), and fetches and checks the
// metadata (RFC 9728 section 3).
//
//   node discover.mjs < {"port", "url", "token", "resource"}
//       {"status", "challenges", "asked", "metadata"}; every host is at `port`, and `asked` are the URLs that were asked
import http from 'node:http';
import { text } from 'node:stream/consumers';
import * as oauth from 'oauth4webapi';

const { port, url, token, resource } = JSON.parse(await text(process.stdin));
const asked = [];

/** Fetches from the proxy, whatever the host of the URL is. */
async function fetchFromProxy(target, { method, headers }) {
  const { host, pathname, search } = new URL(target);
  asked.push(String(target));
  const options = { port, method, path: pathname + search, headers: { ...Object.fromEntries(new Headers(headers)), host } };
  const answer = await new Promise((resolve, reject) => {
    http.request(options, resolve).on('error', reject).end();
  });
  const body = await text(answer);
  return new Response(body || null, { status: answer.statusCode, headers: Object.entries(answer.headers).flatMap(([name, value]) => [value].flat().map((one) => [name, one])) });
}

const options = { [oauth.customFetch]: fetchFromProxy };
let refusal;
try {
  await oauth.protectedResourceRequest(token, 'GET', new URL(url), undefined, null, options);
  throw new Error('no challenge');
} catch (error) {
  if (!(error instanceof oauth.WWWAuthenticateChallengeError)) {
    throw error;
  }
  refusal = error;
}
const identifier = new URL(resource);
const response = await oauth.resourceDiscoveryRequest(identifier, options);
const metadata = await oauth.processResourceDiscoveryResponse(identifier, response);
console.log(JSON.stringify({ status: refusal.status, challenges: refusal.cause, asked, metadata }));
process.exit(0);
