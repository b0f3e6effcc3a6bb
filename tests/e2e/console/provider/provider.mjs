// An OpenID Connect provider for the tests: `oidc-provider` of npm with one client, and people without passwords.
//
// node provider.mjs MODULES PORT CLIENT   CLIENT: {"id", "secret", "in_userinfo", "people": {NAME: [GROUP, ...]}}
//
// It prints its issuer when it listens. Then it reads the client's redirect address, a line of standard input, because
// the server that this client is needs the issuer first. It ends when its standard input does.

import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, port, given] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(join(modules, "oidc-provider", "lib", "index.js")));
const client = JSON.parse(given);
let answer;

const server = createServer((request, response) => answer(request, response));
await new Promise((listening) => server.listen(Number(port), "127.0.0.1", listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const lines = createInterface({ input: process.stdin });
lines.once("line", (redirect) => {
  answer = served(redirect);
  console.log("ready");
});
lines.on("close", () => process.exit(0));
console.log(issuer);

function served(redirect) {
  const provider = new Provider(issuer, {
    clients: [{ client_id: client.id, client_secret: client.secret, redirect_uris: [redirect] }],
    claims: { openid: ["sub"], email: ["email"], groups: ["groups"] },
    // true, the default: the claims of a scope are in the answer of the userinfo endpoint only.
    conformIdTokenClaims: client.in_userinfo,
    cookies: { keys: ["a key of the tests"] },
    pkce: { required: () => true },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (context, interaction) => `/people/${interaction.uid}` },
    findAccount: (context, name) => ({
      accountId: name,
      claims: () => ({ sub: name, email: `${name}@example.org`, groups: client.people[name] }),
    }),
    loadExistingGrant: agreed, // without a page that asks for consent
  });
  provider.on("server_error", (context, error) => console.error(error));
  return (request, response) => {
    const asked = new URL(request.url, issuer);
    if (!asked.pathname.startsWith("/people/")) return provider.callback()(request, response);
    return people(provider, request, response, asked).catch((error) => {
      console.error(error);
      response.writeHead(500).end();
    });
  };
}

async function agreed(context) {
  const { client: asking, session, params, provider } = context.oidc;
  const grant = new provider.Grant({ clientId: asking.clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope);
  await grant.save();
  return grant;
}

async function people(provider, request, response, asked) {
  const name = asked.searchParams.get("as");
  if (name === "declines") {
    const result = { error: "access_denied", error_description: "The person does not want to" };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }
  if (name !== null) {
    return provider.interactionFinished(request, response, { login: { accountId: name } });
  }
  const links = [...Object.keys(client.people), "declines"].map((each) => `<p><a href="?as=${each}">${each}</a></p>`);
  response.writeHead(200, { "content-type": "text/html; charset=utf-8" });
  response.end(`<!doctype html><html lang="en"><title>Who are you?</title><h1>Who are you?</h1>${links.join("")}`);
}
