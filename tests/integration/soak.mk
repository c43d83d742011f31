# A program that is written for ration: linked with the library of this build.
$(BUILD)/tests/integration/soak: EXTRA = -L$(BUILD) -lration -Wl,-rpath,$(abspath $(BUILD))
$(BUILD)/tests/integration/soak: $(BUILD)/libration.so
