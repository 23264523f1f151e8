// The Python bindings; _core.pyi documents them. One line for each fact that is gathered from the
// large tables: each takes them batch by batch.
#include "brief.hpp"
#include "places.hpp"
#include "steps.hpp"
#include "trail.hpp"
#include "words.hpp"

using namespace fold;

NB_MODULE(_core, m) {
    nb::class_<Brief>(m, "Brief")
        .def(nb::init<nb::bytes, int>())
        .def("take", &Brief::take)
        .def("end", &Brief::end);
    nb::class_<Words>(m, "Words")
        .def(nb::init<nb::bytes>())
        .def("kernels", &Words::kernels)
        .def("take", &Words::take)
        .def("end", &Words::end);
    nb::class_<Places>(m, "Places")
        .def(nb::init<>())
        .def("take", &Places::take)
        .def("end", &Places::end);
    nb::class_<Trail>(m, "Trail")
        .def(nb::init<u64, u64>())
        .def("take", &Trail::take)
        .def("end", &Trail::end);
    nb::class_<Steps>(m, "Steps")
        .def(nb::init<u64, nb::bytes, nb::bytes>())
        .def("take", &Steps::take)
        .def("end", &Steps::end);
}
