"""What people do with LangChain's OpenAI classes, against the server at argv[1]."""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from client_checks import Checks
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Rome", "Oslo"]
    is_warm: bool


@tool
def weather(city: Literal["Rome", "Oslo"]) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def main() -> None:
    """Make the calls and tell what came of them."""
    url, key = sys.argv[1], sys.argv[2]
    options = {"base_url": url, "api_key": key, "model": "starter", "max_retries": 0}
    model = ChatOpenAI(**options, temperature=0, max_tokens=60, stream_usage=True)
    messages = [SystemMessage("Be brief."), HumanMessage("Name a colour.")]
    checks = Checks()
    whole = checks.works("invoke", lambda: model.invoke(messages).content)
    checks.works("stream", lambda: "".join(chunk.content for chunk in model.stream(messages)) == whole)
    checks.works("usage", lambda: model.invoke(messages).usage_metadata["total_tokens"])
    checks.works("batch", lambda: [answer.content for answer in model.batch([messages] * 3)] == [whole] * 3)
    checks.works("ainvoke", lambda: asyncio.run(model.ainvoke(messages)).content == whole)
    checks.works("stop", lambda: " " not in model.invoke(messages, stop=[" "]).content)
    for method in ("json_schema", "function_calling"):
        form = model.with_structured_output(Weather, method=method)
        checks.works(f"with_structured_output, {method}", lambda form=form: isinstance(form.invoke(messages), Weather))
    chain = ChatPromptTemplate.from_messages([("user", "Name a {thing}.")]) | model
    checks.works("a chain", lambda: chain.invoke({"thing": "colour"}).content)
    tools = model.bind_tools([weather], tool_choice="required", parallel_tool_calls=False)
    answer = checks.works("bind_tools", lambda: (found := tools.invoke(messages)).tool_calls and found)
    if answer:
        call = answer.tool_calls[0]
        result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
        talk = [*messages, answer, result]
        checks.works("the tool's result", lambda: bool(model.bind_tools([weather]).invoke(talk).id))
    scored = model.bind(logprobs=True)
    checks.works("logprobs", lambda: scored.invoke(messages).response_metadata["logprobs"]["content"])
    checks.works("OpenAI, completions", lambda: OpenAI(**options, max_tokens=5).invoke("The sky is"))
    checks.tell()


if __name__ == "__main__":
    main()
