"""AWS IoT's APIs as botocore's service model describes it, compiled once: routes, inputs, outputs, errors."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from botocore.loaders import Loader

from thingmint.aws.contract.binding import Parse, bind_input
from thingmint.aws.contract.decoding import InputCompiler
from thingmint.aws.contract.encoding import Encode, OutputCompiler
from thingmint.aws.contract.routing import Router, label_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.aws.contract.scalars import Shape


_MODEL: Final = "iot/2015-05-28/service-2"
_DATA_MODEL: Final = "iot-data/2015-05-28/service-2"
_JOBS_MODEL: Final = "iot-jobs-data/2017-09-29/service-2"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """One operation. Every successful response has status 200.

    ``parse(labels, query, headers, body)`` returns the members of the request by name; it raises Invalid and nothing
    else. ``encode(result)`` returns the response body; a result that does not fit the model is a programming error
    (KeyError, TypeError). ``errors`` are the codes that the model declares.
    """

    name: str
    method: str
    uri: str
    parse: Parse
    encode: Encode
    errors: frozenset[str]


class Contract:
    """All operations of a service model, and their routes."""

    def __init__(
        self, operations: Mapping[str, Operation], error_status: Mapping[str, int], router: Router[Operation]
    ) -> None:
        self.operations: Mapping[str, Operation] = MappingProxyType(dict(operations))
        self.error_status: Mapping[str, int] = MappingProxyType(dict(error_status))
        self.match = router.match
        self.methods = router.methods


def load_contract() -> Contract:
    """Compiles the control plane's model of the installed botocore, which takes some tens of milliseconds."""
    return compile_contract(load_model())


def load_model() -> Mapping[str, Any]:
    """The control plane's model as botocore has it."""
    return _load(_MODEL)


def load_data_contract() -> Contract:
    """Compiles the model of AWS IoT's data plane. A topic in a path may have slashes that are not percent-encoded."""
    return compile_contract(_load(_DATA_MODEL), greedy="topic")


def load_jobs_contract() -> Contract:
    """Compiles the model of the jobs of AWS IoT's devices."""
    return compile_contract(_load(_JOBS_MODEL))


def _load(name: str) -> Mapping[str, Any]:
    # Only botocore's own directory: a model in ~/.aws/models must not change what this server accepts.
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    model: Mapping[str, Any] = loader.load_data(name)
    return model


def compile_contract(model: Mapping[str, Any], greedy: str | None = None) -> Contract:
    """Raises ValueError for a construct of the model that is not implemented here.

    The label ``greedy``, at the end of a path, takes all remaining segments, whatever the model says.
    """
    if model["metadata"]["protocol"] != "rest-json":
        raise ValueError(f"the protocol {model['metadata']['protocol']} is not supported")
    shapes: Mapping[str, Shape] = model["shapes"]
    status = {
        _error_code(name, shape): shape["error"]["httpStatusCode"]
        for name, shape in shapes.items()
        if shape.get("exception")
    }
    inputs, outputs = InputCompiler(shapes), OutputCompiler(shapes)
    router: Router[Operation] = Router()
    operations: dict[str, Operation] = {}
    for name, spec in model["operations"].items():
        if spec["http"].get("responseCode", 200) != 200:
            raise ValueError(f"{name}: success codes other than 200 are not supported")
        uri = spec["http"]["requestUri"]
        if greedy is not None and uri.endswith(f"/{{{greedy}}}"):
            uri = f"{uri[:-1]}+}}"
        operation = operations[name] = Operation(
            name=name,
            method=spec["http"]["method"],
            uri=uri,
            parse=bind_input(shapes[spec["input"]["shape"]], label_names(uri), shapes, inputs),
            encode=outputs.body(spec["output"]["shape"] if "output" in spec else None),
            errors=frozenset(_error_code(error["shape"], shapes[error["shape"]]) for error in spec["errors"]),
        )
        router.add(operation.method, uri, operation)
    return Contract(operations, status, router)


def _error_code(name: str, shape: Shape) -> str:
    code: str = shape["error"].get("code", name)
    return code
