// Which instruction set the kernels run on, and which of its tables that is.
#pragma once

#include "table.h"

namespace gradreach {

/// Names of the instruction sets this core was compiled for, best first, ended by null.
const char* const* compiled_isas();

/// Whether this processor and its operating system can run `isa`; false for an unknown name.
bool isa_supported(const char* isa);

/// Runs all later calls on `isa`. False, and nothing changed, when it is not compiled in or this
/// processor lacks it. A call under way in another thread ends on the table it began with.
bool use_isa(const char* isa);

/// The kernels to call: those of the best instruction set here, unless use_isa() chose another.
const KernelTable& kernels();

}  // namespace gradreach
