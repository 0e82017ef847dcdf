"""Docstrings against the code they describe."""

import ast
import builtins
import inspect
import re
import textwrap

import docstring_parser
from public_api import PUBLIC

import ddln


def documented(value, kind):
    """The names of a section, `Args` ("param") or `Attributes` ("attribute"), in order."""
    parsed = docstring_parser.parse(inspect.getdoc(value) or "", docstring_parser.Style.GOOGLE)
    return [p.arg_name.lstrip("*") for p in parsed.params if p.args[0] == kind]


def parameters(value):
    function = value.__init__ if inspect.isclass(value) else value
    names = [p.name for p in inspect.signature(function).parameters.values()]
    return [name for name in names if name not in ("self", "cls")]


def attributes(cls):
    """The names of the fields of a class, abstract ones too, its properties, and what it sets itself."""
    if not inspect.isclass(cls):
        return set()
    annotated = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})}
    return annotated | set(dir(cls)) | set(re.findall(r"self\.(\w+)\b", inspect.getsource(cls)))


def wrong(value):
    """What a docstring says of arguments and attributes that is not so."""
    found = []
    args = documented(value, "param")
    if args and args != parameters(value):
        found.append(f"Args {args}, but the signature has {parameters(value)}")
    unknown = set(documented(value, "attribute")) - attributes(value)
    if unknown:
        found.append(f"Attributes {unknown} do not exist")
    return found


def test_arguments_and_attributes_are_those_of_the_code():
    problems = {name: wrong(value) for name, value in PUBLIC.items()}
    assert {name: found for name, found in problems.items() if found} == {}


def test_a_wrong_argument_is_found():
    def function(a, b):
        """Does.

        Args:
            a: the first.
            c: there is none.
        """

    assert wrong(function)


def test_everything_public_has_a_docstring():
    bare = []
    for name, value in PUBLIC.items():
        owner, _, method = name.rpartition(".")
        # Methods that implement an abstract one have its docstring, which is found by the class.
        if not inspect.getdoc(getattr(PUBLIC[owner], method) if is_method(name) else value):
            bare.append(name)
    assert bare == []


def is_method(name):
    return name.rpartition(".")[0] in PUBLIC


def test_functions_of_several_arguments_document_them():
    functions = [
        name for name in PUBLIC if inspect.isfunction(PUBLIC[name]) and not is_method(name)
    ]
    several = [name for name in functions if len(parameters(PUBLIC[name])) > 1]
    bare = {name for name in several if not documented(PUBLIC[name], "param")}
    assert bare == {"ddln.compile_sweep"}  # its arguments are those of `ddln.sweep`
    explained = {*documented(ddln.sweep, "param"), "settings"}
    assert set(parameters(ddln.compile_sweep)) <= explained


def raised(value):
    """The exceptions that the body of a function raises itself."""
    function = inspect.unwrap(value.__init__ if inspect.isclass(value) else value)
    if not inspect.isfunction(function) or function.__code__.co_filename == "<string>":
        return set()  # inherited, or that of a dataclass
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    names = {
        call.func.id
        for call in calls
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    return {name for name in names if inspect.isclass(getattr(builtins, name, None))}


def test_what_a_function_raises_is_documented():
    silent = {}
    for name, value in PUBLIC.items():
        if is_method(name) and not documented(value, "param"):
            continue  # of one line, or one that the abstract class explains
        parsed = docstring_parser.parse(inspect.getdoc(value) or "", docstring_parser.Style.GOOGLE)
        listed = {entry.type_name for entry in parsed.raises}
        if raised(value) - listed:
            silent[name] = raised(value) - listed
        assert all(hasattr(builtins, entry) or hasattr(ddln, entry) for entry in listed), name
    assert silent == {}
