"""Short vectors as values inside numba's functions: LLVM's own vector types, which it maps to the widest registers at hand.

Numba alone keeps an accumulator that lives in an array in memory, for it cannot know that no other array overlaps it.
"""
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LLVM_TYPES = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
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


def pointer(context, builder, array_type, array, index, vector_type):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(vector_type).as_pointer())


def spread(context, builder, scalar, vector_type):
    llvm_type = context.get_value_type(vector_type)
    first = builder.insert_element(ir.Constant(llvm_type, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector_type.size), [0] * vector_type.size)
    return builder.shuffle_vector(first, ir.Constant(llvm_type, ir.Undefined), lanes)


@intrinsic(prefer_literal=True)
def zeros(typing_context, array, size):
    """A vector of `size` (a constant) zeros of the array's type."""
    vector = Vector(array.dtype, size.literal_value)

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(array, size), generate


@intrinsic
def size(typing_context, vector):
    """Of a vector, a constant."""
    def generate(context, builder, signature, args):
        return context.get_constant(types.intp, vector.size)

    return types.intp(vector), generate


@intrinsic
def take(typing_context, array, index):
    """array[index] of a contiguous 1-D array, without the care for negative indices that array[index] takes."""
    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), generate


@intrinsic
def put(typing_context, array, index, number):
    """array[index] = number, as `take`."""
    def generate(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        builder.store(args[2], builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.none(array, types.intp, array.dtype), generate


@intrinsic
def load(typing_context, array, index, like):
    """A vector of `like`'s size out of a contiguous 1-D array, from array[index] on."""
    def generate(context, builder, signature, args):
        source = pointer(context, builder, array, args[0], args[1], like)
        return builder.load(source, align=array.dtype.bitwidth // 8)

    return like(array, types.intp, like), generate


@intrinsic
def store(typing_context, array, index, vector):
    """array[index:index + vector.size] = vector, for a contiguous 1-D array."""
    def generate(context, builder, signature, args):
        target = pointer(context, builder, array, args[0], args[1], vector)
        builder.store(args[2], target, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), generate


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
        scalar = LLVM_TYPES[x.dtype]
        vector = context.get_value_type(x)
        name = f'llvm.vector.reduce.fadd.v{x.size}f{x.dtype.bitwidth}'
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(scalar, (scalar, vector)), name)
        return builder.call(function, (ir.Constant(scalar, -0.), args[0]), fastmath=('reassoc',))

    return x.dtype(x), generate
