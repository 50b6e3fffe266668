"""A model server that takes 200 ms per turn, for any number of turns at once.

Run as a process: the port, and the ids of two turns as JSON, of which the second one
answers contexts of 60 tokens and more.
"""

import asyncio
import json
import sys

import uvicorn

SECONDS = 0.2


def application(first, second):
    async def answer(scope, receive, send):
        body, has_more = b"", True
        while has_more:
            part = await receive()
            body += part.get("body", b"")
            has_more = part.get("more_body", False)
        prompt = json.loads(body)["prompt"]
        await asyncio.sleep(SECONDS)
        choice = {
            "text": "",
            "finish_reason": "stop",
            "stop_reason": None,
            "token_ids": first if len(prompt) < 60 else second,
            "prompt_token_ids": prompt,
        }
        data = json.dumps({"choices": [choice]}).encode()
        headers = [(b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return answer


if __name__ == "__main__":
    port, first, second = map(json.loads, sys.argv[1:])
    uvicorn.run(
        application(first, second),
        host="127.0.0.1",
        port=port,
        lifespan="off",
        log_level="error",
        access_log=False,
    )
