"""OAuth: the token endpoint, the metadata server, and the check of what they gave out.

A service account's JWT is checked as Google does it: its three parts, the claims, and, with a public
key, its signature (by the openssl command).
"""
import base64
import json
import os
import re
import secrets
import subprocess
import tempfile
import time
import urllib.parse

from .errors import ApiError, error_info

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = ("https://www.googleapis.com/auth/pubsub", "https://www.googleapis.com/auth/cloud-platform",
          "https://www.googleapis.com/auth/monitoring.read", "https://www.googleapis.com/auth/monitoring",
          "https://www.googleapis.com/auth/bigquery")
CLOCK_SKEW_S = 60
CACHED_UNTIL_S = 300  # before its end the metadata server gives out a fresh token


class Refused(Exception):
    """An answer of the token endpoint: {error, error_description}."""

    def __init__(self, error, description):
        super().__init__(description)
        self.error = error

    def body(self):
        return json.dumps({"error": self.error, "error_description": str(self)}).encode()


def decoded(part):
    if not re.fullmatch("[A-Za-z0-9_-]+", part) or len(part) % 4 == 1:
        raise Refused("invalid_grant", "a part of the JWT is not base64url without padding")
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def decoded_json(part):
    try:
        value = json.loads(decoded(part))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused("invalid_grant", "a part of the JWT is no JSON object")
    return value


def signed(public_key, text, signature):
    """Whether signature is RSA with SHA-256 of text, under the PEM file public_key."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(signature)
        file.flush()
        done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", public_key, "-signature",
                               file.name], input=text.encode(), capture_output=True, check=False)
    return done.returncode == 0


class Tokens:
    def __init__(self, life, public_key, project, service):
        self.life, self.public_key, self.project = life, public_key, project
        self.service = service
        if public_key and not os.access(public_key, os.R_OK):
            raise SystemExit(f"cannot read {public_key}")
        self.ends = {}  # token -> monotonic seconds
        self.cached = None  # of the metadata server
        self.issued = 0

    def issue(self):
        token = "ya29." + secrets.token_urlsafe(96)
        self.ends[token] = time.monotonic() + self.life
        self.issued += 1
        return token

    def revoke(self):
        self.ends.clear()
        self.cached = None

    def granted(self, token):
        left = max(0, int(self.ends[token] - time.monotonic()))
        return json.dumps({"access_token": token, "expires_in": left, "token_type": "Bearer"}).encode()

    def check(self, authorization):
        """Raises the 401 for a request without a token that is in force."""
        if not authorization or not authorization.startswith("Bearer "):
            raise self.unauthenticated("CREDENTIALS_MISSING", "Request is missing required "
                                       "authentication credential.", violation=True)
        end = self.ends.get(authorization[7:])
        if end is None:
            raise self.unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED", "Request had invalid "
                                       "authentication credentials.")
        if end <= time.monotonic():
            raise self.unauthenticated("ACCESS_TOKEN_EXPIRED", "Request had invalid authentication "
                                  "credentials.")

    def unauthenticated(self, reason, message, violation=False):
        info = error_info(reason, {"service": self.service}, "googleapis.com")
        return ApiError(401, "UNAUTHENTICATED", message + " Expected OAuth 2 access token, login cookie "
                        "or other valid authentication credential.", [info], violation)

    # ---- POST /token ----

    def exchange(self, request):
        if request.headers.get("content-type", "").partition(";")[0] != \
                "application/x-www-form-urlencoded":
            raise Refused("invalid_request", "Content-Type must be application/x-www-form-urlencoded")
        try:
            form = dict(urllib.parse.parse_qsl(request.body.decode("ascii"), strict_parsing=True))
        except ValueError:
            raise Refused("invalid_request", "the body is not form-encoded") from None
        grant = form.get("grant_type")
        if grant == JWT_BEARER:
            self.check_jwt(form.get("assertion", ""), request.headers["host"])
        elif grant == "refresh_token":
            self.check_refresh(form)
        else:
            raise Refused("unsupported_grant_type", f"Invalid grant_type: {grant}")
        return self.granted(self.issue())

    def check_refresh(self, form):
        for name in ("client_id", "client_secret", "refresh_token"):
            if not form.get(name):
                raise Refused("invalid_request", f"Missing required parameter: {name}")
        if form["refresh_token"] == "revoked":
            raise Refused("invalid_grant", "Token has been expired or revoked.")

    def check_jwt(self, assertion, host):
        parts = assertion.split(".")
        if len(parts) != 3:
            raise Refused("invalid_grant", "the assertion is no JWT")
        head, claims, signature = decoded_json(parts[0]), decoded_json(parts[1]), decoded(parts[2])
        if head.get("alg") != "RS256" or head.get("typ", "JWT") != "JWT":
            raise Refused("invalid_grant", "the JWT's alg must be RS256, its typ JWT")
        self.check_claims(claims, host)
        if self.public_key and not signed(self.public_key, ".".join(parts[:2]), signature):
            raise Refused("invalid_grant", "Invalid JWT Signature.")

    def check_claims(self, claims, host):
        if not isinstance(claims.get("iss"), str) or "@" not in claims["iss"]:
            raise Refused("invalid_grant", "Not a valid email or user ID.")
        if claims.get("aud") not in (f"http://{host}/token", f"https://{host}/token"):
            raise Refused("invalid_grant", f"Invalid JWT: Failed audience check: {claims.get('aud')}")
        scopes = claims.get("scope")
        if not isinstance(scopes, str) or not scopes.split() or set(scopes.split()) - set(SCOPES):
            raise Refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        issued, end, now = claims.get("iat"), claims.get("exp"), time.time()
        if type(issued) is not int or type(end) is not int or end - issued > 3600 or end <= issued \
                or issued > now + CLOCK_SKEW_S or end <= now:
            raise Refused("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 "
                          "minutes) and in a reasonable timeframe. Check your iat and exp values.")

    # ---- the metadata server ----

    def metadata_token(self):
        """The same until shortly before its end."""
        left = self.ends.get(self.cached, 0) - time.monotonic()
        if left < min(CACHED_UNTIL_S, self.life / 2):
            self.cached = self.issue()
        return self.granted(self.cached)
