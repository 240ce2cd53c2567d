"""The `context` argument of a handler: Caloric's classes under the names by which functions import them."""

from caloric.context import Client, ClientContext, CognitoIdentity, LambdaContext

__all__ = ["Client", "ClientContext", "CognitoIdentity", "LambdaContext"]
