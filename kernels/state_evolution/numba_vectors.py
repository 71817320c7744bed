"""Vectors for what numba compiles: LLVM's own, which it maps to the widest registers at hand.

Numba alone keeps an accumulator that is part of an array in memory, for it cannot know that no other array overlaps it.
"""
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

CACHE_LINE = 64    # bytes
LLVM_TYPES = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
BYTE, INT32 = ir.IntType(8), ir.IntType(32)
# A multiplication and the addition after it may round once.
CONTRACT = ('contract',)


class Vector(types.Type):
    """`size` floats of one type."""

    def __init__(self, dtype, size):
        self.dtype, self.size = dtype, size
        super().__init__(f'Vector({dtype}, {size})')


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(LLVM_TYPES[vector.dtype], vector.size))


def place_of(context, builder, memory, index, vector_type):
    return builder.bitcast(builder.gep(memory, [index]), context.get_value_type(vector_type).as_pointer())


def spread(context, builder, scalar, vector_type):
    llvm_type = context.get_value_type(vector_type)
    first = builder.insert_element(ir.Constant(llvm_type, ir.Undefined), scalar, INT32(0))
    lanes = ir.Constant(ir.VectorType(INT32, vector_type.size), [0] * vector_type.size)
    return builder.shuffle_vector(first, ir.Constant(llvm_type, ir.Undefined), lanes)


@intrinsic
def memory(typing_context, array):
    """Where a contiguous 1-D array begins. Whoever is handed this and not the array neither counts references nor
    minds bounds and negative indices."""
    def generate(context, builder, signature, args):
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic(prefer_literal=True)
def zeros(typing_context, memory, size):
    """A vector of `size` (a constant) zeros of the type that is there."""
    vector = Vector(memory.dtype, size.literal_value)

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(memory, size), generate


@intrinsic
def size(typing_context, vector):
    """Of a vector, a constant."""
    def generate(context, builder, signature, args):
        return context.get_constant(types.intp, vector.size)

    return types.intp(vector), generate


@intrinsic
def take(typing_context, memory, index):
    """memory[index]"""
    def generate(context, builder, signature, args):
        return builder.load(builder.gep(args[0], [args[1]]))

    return memory.dtype(memory, types.intp), generate


@intrinsic
def put(typing_context, memory, index, number):
    """memory[index] = number"""
    def generate(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.none(memory, types.intp, memory.dtype), generate


@intrinsic
def load(typing_context, memory, index, like):
    """A vector of `like`'s size, from memory[index] on."""
    def generate(context, builder, signature, args):
        source = place_of(context, builder, args[0], args[1], like)
        return builder.load(source, align=memory.dtype.bitwidth // 8)

    return like(memory, types.intp, like), generate


@intrinsic
def prefetch(typing_context, memory, index, like):
    """Asks for the cache lines of a vector of `like`'s size, from memory[index] on."""
    def generate(context, builder, signature, args):
        arguments = BYTE.as_pointer(), INT32, INT32, INT32
        function = builder.module.declare_intrinsic(
            'llvm.prefetch', [arguments[0]], ir.FunctionType(ir.VoidType(), arguments))
        for i in range(0, like.size, CACHE_LINE * 8 // memory.dtype.bitwidth):
            place = builder.gep(args[0], [builder.add(args[1], ir.Constant(args[1].type, i))])
            # To read, into the nearest cache, data.
            builder.call(function, [builder.bitcast(place, arguments[0]), INT32(0), INT32(3), INT32(1)])
        return context.get_dummy_value()

    return types.none(memory, types.intp, like), generate


@intrinsic
def store(typing_context, memory, index, vector):
    """memory[index:index + vector.size] = vector"""
    def generate(context, builder, signature, args):
        target = place_of(context, builder, args[0], args[1], vector)
        builder.store(args[2], target, align=memory.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(memory, types.intp, vector), generate


@intrinsic
def plus(typing_context, a, b):
    """a + b."""
    def generate(context, builder, signature, args):
        return builder.fadd(*args)

    return a(a, a), generate


@intrinsic
def minus(typing_context, a, b):
    """a - b."""
    def generate(context, builder, signature, args):
        return builder.fsub(*args)

    return a(a, a), generate


@intrinsic
def times(typing_context, a, x):
    """a x, with a number or a vector a."""
    def generate(context, builder, signature, args):
        factor = args[0] if isinstance(a, Vector) else spread(context, builder, args[0], x)
        return builder.fmul(factor, args[1], flags=CONTRACT)

    return x(x if isinstance(a, Vector) else x.dtype, x), generate


@intrinsic
def plus_times(typing_context, y, a, x):
    """y + a x, with a number or a vector a."""
    def generate(context, builder, signature, args):
        factor = args[1] if isinstance(a, Vector) else spread(context, builder, args[1], x)
        return builder.fadd(args[0], builder.fmul(factor, args[2], flags=CONTRACT), flags=CONTRACT)

    return x(x, x if isinstance(a, Vector) else x.dtype, x), generate


@intrinsic
def total(typing_context, x):
    """The sum of a vector's elements, in an order of LLVM's choice."""
    def generate(context, builder, signature, args):
        scalar, vector = LLVM_TYPES[x.dtype], context.get_value_type(x)
        name = f'llvm.vector.reduce.fadd.v{x.size}f{x.dtype.bitwidth}'
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(scalar, (scalar, vector)), name)
        return builder.call(function, (ir.Constant(scalar, -0.), args[0]), fastmath=('reassoc',))

    return x.dtype(x), generate
