# Sets up a tenant for session-checker: the application with exactly the scopes of the strategy, and the Action at the end
# of the login flow.
#
#   terraform apply -var url=https://sessions.example.com -var strategy=Deny -var public_key_pem="$(cat public.pem)"
#
# The token of the Action comes from the environment (TF_VAR_token). Terraform writes it into its state: protect the state.
# The application's private key is not in the state, because Auth0 gets only the public key.

terraform {
  required_version = ">= 1.3"

  required_providers {
    auth0 = {
      source  = "auth0/auth0"
      version = "~> 1.0"
    }
  }
}

variable "url" {
  description = "The address of the service, which Auth0's cloud must reach."
  type        = string

  validation {
    condition     = startswith(var.url, "https://")
    error_message = "The Action sends its token: the address must use HTTPS."
  }
}

variable "token" {
  description = "The token of the Action: a value of the policy's callers' Secret."
  type        = string
  sensitive   = true
}

variable "strategy" {
  description = "The strategy of the policies. It decides the scopes."
  type        = string
  default     = "Deny"

  validation {
    condition     = contains(["Deny", "RevokeOldest", "RevokeLeastRecentlyUsed", "RevokeNextToExpire", "Ask"], var.strategy)
    error_message = "Write a strategy of SessionPolicy."
  }
}

variable "public_key_pem" {
  description = "The public key of the service. The private key is in the Secret of the tenant (privateKey)."
  type        = string
}

variable "action_secrets" {
  description = "Other secrets of the Action, such as FAIL_MODE and ERROR_CODE (examples/auth0-action/README.md)."
  type        = map(string)
  default     = {}
}

data "auth0_tenant" "current" {}

resource "auth0_client" "session_checker" {
  name        = "session-checker"
  description = "Lists the sessions of users, and ends sessions over a limit."
  app_type    = "non_interactive"
  grant_types = ["client_credentials"]
}

resource "auth0_client_credentials" "session_checker" {
  client_id             = auth0_client.session_checker.id
  authentication_method = "private_key_jwt"

  private_key_jwt {
    credentials {
      name            = "session-checker"
      credential_type = "public_key"
      algorithm       = "RS256"
      pem             = var.public_key_pem
    }
  }
}

resource "auth0_client_grant" "session_checker" {
  client_id = auth0_client.session_checker.id
  audience  = data.auth0_tenant.current.management_api_identifier
  scopes    = var.strategy == "Deny" ? ["read:sessions"] : ["read:sessions", "delete:sessions", "delete:refresh_tokens"]
}

resource "auth0_action" "session_limit" {
  name    = "session-limit"
  runtime = "node22"
  deploy  = true
  code    = file("${path.module}/../auth0-action/session-limit.js")

  supported_triggers {
    id      = "post-login"
    version = "v3"
  }

  secrets {
    name  = "SESSION_CHECKER_URL"
    value = var.url
  }

  secrets {
    name  = "SESSION_CHECKER_TOKEN"
    value = var.token
  }

  dynamic "secrets" {
    for_each = var.action_secrets
    content {
      name  = secrets.key
      value = secrets.value
    }
  }
}

# The Action must come last. This resource appends it to the flow, and leaves the other Actions where they are. If an
# auth0_trigger_actions already manages the flow, add the Action there, as the last one, in place of this.
resource "auth0_trigger_action" "session_limit" {
  trigger   = "post-login"
  action_id = auth0_action.session_limit.id

  # Logins are checked only when the service can answer.
  depends_on = [auth0_client_grant.session_checker, auth0_client_credentials.session_checker]
}

# For the Secret of the tenant: type sessionchecker.dev/credentials, with privateKey beside them.
output "credentials" {
  description = "The domain and the client id of the application."
  value = {
    domain   = data.auth0_tenant.current.domain
    clientId = auth0_client.session_checker.id
  }
}
