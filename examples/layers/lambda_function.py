import requests


def lambda_handler(event, context):
    prepared = requests.Request("GET", "https://api.example.com/items", params=event).prepare()
    return {"statusCode": 200, "body": prepared.url}
